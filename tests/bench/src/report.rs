//! The page that is printed and the file that is kept.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::figures::{Against, Measured, Row, Sense, Target, Verdict, Weight};

/// A table of one row, with what was to be reached.
pub(crate) fn table(row: &Row, measured: &Measured) -> String {
    let mut page = format!("\n{} · {}\n", row.name, row.title);
    for figure in row.figures {
        writeln!(page, "  {}, {}", figure.name, figure.unit).expect("a String takes all");
        for (name, score) in &measured.scores {
            let Some(values) = score.get(figure.name) else { continue };
            let (value, least, most) =
                (number(values.value()), number(values.least()), number(values.most()));
            writeln!(page, "    {name:<24} {value:>12}   {least} – {most}").expect("a String takes all");
        }
    }
    for (name, score) in &measured.scores {
        if let Some(trouble) = &score.trouble {
            writeln!(page, "    {name:<24} {trouble}").expect("a String takes all");
        }
    }
    for target in &row.targets {
        writeln!(page, "  {}", judged(target, target.judge(measured))).expect("a String takes all");
    }
    if let Some(remark) = row.remark {
        writeln!(page, "  {}", remark(measured).replace('\n', "\n  ")).expect("a String takes all");
    }
    page
}

/// One target in one line.
fn judged(target: &Target, verdict: Option<Verdict>) -> String {
    let Target { who, figure, .. } = target;
    let weight = if target.weight == Weight::Must { "must" } else { "goal" };
    let sense = if target.sense == Sense::AtLeast { "≥" } else { "≤" };
    let of = match target.against {
        Against::Peer(peer, factor) => format!("{sense} {factor} × {peer}"),
        Against::Number(bound) => format!("{sense} {bound}"),
    };
    let found = verdict.map_or("not measured".to_owned(), |verdict| {
        let met = match (verdict.is_met, target.weight) {
            (true, _) => "met",
            (false, Weight::Must) => "MISSED",
            (false, Weight::Goal) => "not reached",
        };
        format!("{} ({} – {}): {met}", number(verdict.found), number(verdict.least), number(verdict.most))
    });
    format!("{weight} {who} {figure} {of}: {found}")
}

/// Three digits that matter, and no more.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{:.2} M", value / 1e6),
        1e4.. => format!("{:.1} k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}

/// The same for a machine.
pub(crate) fn machine(row: &Row, measured: &Measured) -> Value {
    let contestants: Map<String, Value> = measured
        .scores
        .iter()
        .map(|(name, score)| {
            let figures: Map<String, Value> = score
                .all()
                .map(|(name, values)| {
                    let value = json!({
                        "value": values.value(), "min": values.least(), "max": values.most(),
                        "rounds": values.rounds,
                    });
                    (name.to_owned(), value)
                })
                .collect();
            ((*name).to_owned(), json!({ "figures": figures, "trouble": score.trouble }))
        })
        .collect();
    let targets: Vec<Value> = row
        .targets
        .iter()
        .map(|target| {
            let verdict = target.judge(measured);
            json!({
                "target": judged(target, verdict),
                "must": target.weight == Weight::Must,
                "found": verdict.map(|verdict| verdict.found),
                "bound": verdict.map(|verdict| verdict.bound),
                "met": verdict.map(|verdict| verdict.is_met),
            })
        })
        .collect();
    json!({ "name": row.name, "title": row.title, "contestants": contestants, "targets": targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        let shown = [1_234_567.0, 54_321.0, 1234.4, 99.94, 1.234, 0.0].map(number);
        assert_eq!(shown, ["1.23 M", "54.3 k", "1234", "99.9", "1.23", "0"]);
    }
}
