//! One SVG of bars for a row's first figure: no script, no font of its own, legible on light and dark pages.

use std::fmt::Write as _;

use crate::figures::{Measured, Row};
use crate::report::number;

const WIDTH: u32 = 720;
const LABELS: u32 = 190;
const VALUES: u32 = 130;
const BAR: u32 = 20;
const STEP: u32 = 30;
const TOP: u32 = 60;

/// The picture, or `None` where nothing was measured.
pub(crate) fn svg(row: &Row, measured: &Measured) -> Option<String> {
    let figure = row.figures.first()?;
    let bars: Vec<(&str, f64, f64, f64)> = measured
        .scores
        .iter()
        .filter_map(|(name, score)| {
            let values = score.get(figure.name)?;
            Some((*name, values.value(), values.least(), values.most()))
        })
        .collect();
    let most = bars.iter().map(|(_, value, _, most)| value.max(*most)).fold(0.0, f64::max);
    if bars.is_empty() {
        return None;
    }
    let height = TOP + STEP * u32::try_from(bars.len()).ok()? + 10;
    let scale = f64::from(WIDTH - LABELS - VALUES) / if most > 0.0 { most } else { 1.0 };
    let mut page = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <style>text{{fill:#1f2328}}.unit{{fill:#59636e}}.peer{{fill:#9aa4af}}.ours{{fill:#1f6feb}}\
         .spread{{stroke:#1f2328}}@media(prefers-color-scheme:dark){{text{{fill:#e6edf3}}.unit{{fill:#9198a1}}\
         .peer{{fill:#656c76}}.ours{{fill:#4493f8}}.spread{{stroke:#e6edf3}}}}</style>\n\
         <title>{title}</title>\n\
         <text x=\"8\" y=\"22\" font-weight=\"bold\">{title}</text>\n\
         <text class=\"unit\" x=\"8\" y=\"42\">{name}, {unit}; lines span all rounds</text>\n",
        title = escaped(row.title),
        name = escaped(figure.name),
        unit = escaped(figure.unit)
    );
    for (index, (name, value, least, most)) in bars.into_iter().enumerate() {
        let y = TOP + STEP * u32::try_from(index).ok()?;
        let class = if name.starts_with("windlass") { "ours" } else { "peer" };
        let (text_y, middle) = (y + 15, y + BAR / 2);
        let at = |value: f64| f64::from(LABELS) + value.max(0.0) * scale;
        writeln!(
            page,
            "<text x=\"{}\" y=\"{text_y}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{LABELS}\" y=\"{y}\" width=\"{:.1}\" height=\"{BAR}\"/>\
             <path class=\"spread\" d=\"M{:.1} {middle}H{:.1}\"/>\
             <text x=\"{:.1}\" y=\"{text_y}\">{}</text>",
            LABELS - 8,
            escaped(name),
            at(value) - f64::from(LABELS),
            at(least),
            at(most),
            at(most.max(value)) + 8.0,
            number(value)
        )
        .ok()?;
    }
    page.push_str("</svg>\n");
    Some(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Figure, Sample, Score};

    #[test]
    fn a_picture_has_a_bar_for_everybody_who_has_a_figure() {
        let row = Row {
            name: "one",
            title: "this & <that>",
            figures: &[Figure { name: "rate", unit: "1/s" }],
            contestants: Vec::new(),
            targets: Vec::new(),
            rounds_max: 1,
            remark: None,
        };
        let mut measured = Measured::default();
        assert!(svg(&row, &measured).is_none());
        for (name, value) in [("peer", 50.0), ("windlass", 100.0)] {
            let mut score = Score::default();
            score.add(Sample::of("rate", value));
            measured.scores.push((name, score));
        }
        measured.scores.push(("absent", Score::default()));
        let picture = svg(&row, &measured).unwrap();
        assert_eq!(picture.matches("<rect").count(), 2);
        assert!(
            picture.contains("this &amp; &lt;that&gt;") && picture.contains("width=\"400.0\""),
            "{picture}"
        );
    }
}
