//! The plot of goodput against what was asked for: a small SVG, legible on light and on dark.

use std::fmt::Write;

/// One operation's line.
pub(crate) struct Curve {
    pub(crate) name: String,
    /// Multiples of the capacity that were asked for, and the part of the peak that was done in time.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 48.0;

/// Largest part of the peak that is drawn.
const PART_MAX: f64 = 1.1;

/// Largest multiple that is drawn; the axis is logarithmic, from 1.
const MULTIPLE_MAX: f64 = 10.0;

/// Strokes that are told apart without colour, too: dashes of each curve.
const DASHES: [&str; 2] = ["none", "7 4"];

pub(crate) fn goodput(curves: &[Curve]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"Work completed in time, as a part of the peak, at 1, 2, 5 and 10 times the capacity\">\n\
         <style>\n\
         :root {{ --ink: #1f2328; --faint: #8c959f; --one: #0969da; --two: #bc4c00 }}\n\
         @media (prefers-color-scheme: dark) {{ :root {{ --ink: #e6edf3; --faint: #6e7681; --one: #58a6ff; --two: #f0883e }} }}\n\
         text {{ font: 12px system-ui, sans-serif; fill: var(--ink) }}\n\
         .axis {{ stroke: var(--faint); stroke-width: 1 }}\n\
         .curve {{ fill: none; stroke-width: 2.5 }}\n\
         </style>\n"
    );
    axes(&mut svg);
    for (index, curve) in curves.iter().enumerate() {
        draw(&mut svg, curve, index);
    }
    svg + "</svg>\n"
}

fn x(multiple: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * multiple.max(1.0).log10() / MULTIPLE_MAX.log10()
}

fn y(part: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - part.clamp(0.0, PART_MAX) / PART_MAX)
}

fn axes(svg: &mut String) {
    let right = WIDTH - RIGHT;
    for part in [0.0, 0.25, 0.5, 0.75, 1.0] {
        let (at, text) = (y(part), part * 100.0);
        line(svg, [LEFT, at, right, at], "class=\"axis\" stroke-opacity=\"0.4\"");
        words(svg, [LEFT - 8.0, at + 4.0], "end", &format!("{text:.0} %"));
    }
    let promised = y(0.95);
    line(svg, [LEFT, promised, right, promised], "class=\"axis\" stroke-dasharray=\"2 3\"");
    words(svg, [right + 8.0, promised + 4.0], "start", "95 % is promised");
    for multiple in [1.0, 2.0, 5.0, 10.0] {
        words(svg, [x(multiple), HEIGHT - BOTTOM + 18.0], "middle", &format!("{multiple:.0}×"));
    }
    words(svg, [f64::midpoint(LEFT, right), HEIGHT - 8.0], "middle", "offered load, times the capacity");
    words(svg, [LEFT - 8.0, TOP - 10.0], "start", "completed in time, of the peak");
}

fn draw(svg: &mut String, curve: &Curve, index: usize) {
    let colour = if index == 0 { "var(--one)" } else { "var(--two)" };
    let dash = DASHES[index % DASHES.len()];
    let points: Vec<String> =
        curve.points.iter().map(|(multiple, part)| format!("{:.1},{:.1}", x(*multiple), y(*part))).collect();
    // Writing to a String does not fail.
    let _written = writeln!(
        svg,
        "<polyline class=\"curve\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\" points=\"{}\"/>",
        points.join(" ")
    );
    for (multiple, part) in &curve.points {
        let (x, y) = (x(*multiple), y(*part));
        let _written = writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>");
    }
    let at = TOP + 120.0 + 20.0 * crate::numbers::as_f64(index);
    let left = WIDTH - RIGHT + 8.0;
    let style = format!("class=\"curve\" stroke=\"{colour}\" stroke-dasharray=\"{dash}\"");
    line(svg, [left, at, left + 24.0, at], &style);
    words(svg, [left + 30.0, at + 4.0], "start", &curve.name);
}

fn line(svg: &mut String, [x1, y1, x2, y2]: [f64; 4], style: &str) {
    let _written =
        writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

fn words(svg: &mut String, [x, y]: [f64; 2], anchor: &str, text: &str) {
    let _written = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_drawn_inside_of_the_picture_and_every_curve_named() {
        let curve =
            |name: &str, points: &[(f64, f64)]| Curve { name: name.to_owned(), points: points.to_vec() };
        let svg = goodput(&[
            curve("spin", &[(1.0, 1.0), (10.0, 0.5)]),
            curve("argon2id", &[(1.0, 7.0), (2.0, -1.0)]),
        ]);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert!(svg.contains(">spin<") && svg.contains(">argon2id<") && svg.ends_with("</svg>\n"));
        for (multiple, part) in [(1.0, 7.0), (10.0, -1.0)] {
            assert!((0.0..=WIDTH).contains(&x(multiple)) && (0.0..=HEIGHT).contains(&y(part)));
        }
        assert!(y(1.0) < y(0.5) && x(1.0) < x(10.0));
    }
}
