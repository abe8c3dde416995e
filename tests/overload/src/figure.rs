//! What is printed: a number, beside what was promised.

use serde_json::{Value, json};

/// One measured number.
pub(crate) struct Figure {
    name: String,
    value: Option<f64>,
    unit: &'static str,
    target: Option<Target>,
    note: String,
}

/// What was promised of it.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    Below(f64),
    Within(f64, f64),
}

impl Target {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::Below(bound) => value < bound,
            Self::Within(least, most) => (least..=most).contains(&value),
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!("at least {}", readable(least)),
            Self::Below(bound) => format!("below {}", readable(bound)),
            Self::Within(least, most) => format!("{} to {}", readable(least), readable(most)),
        }
    }
}

impl Figure {
    /// A number that nothing was promised of.
    pub(crate) fn new(name: impl Into<String>, value: impl Into<Option<f64>>, unit: &'static str) -> Self {
        Self { name: name.into(), value: value.into(), unit, target: None, note: String::new() }
    }

    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// What else there is to say: of what, how many, why not.
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    fn verdict(&self) -> &'static str {
        match (self.target, self.value) {
            (None, _) => "",
            (Some(_), None) => "not measured",
            (Some(target), Some(value)) if target.is_met_by(value) => "met",
            (Some(_), Some(_)) => "MISSED",
        }
    }

    fn cells(&self) -> [String; 5] {
        let value =
            self.value.map_or("none".to_owned(), |value| format!("{} {}", readable(value), self.unit));
        let target = self.target.map(Target::text).unwrap_or_default();
        [self.name.clone(), value.trim_end().to_owned(), target, self.verdict().to_owned(), self.note.clone()]
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target.map(Target::text),
            "verdict": self.verdict(),
            "note": self.note,
        })
    }
}

/// Three digits that matter.
fn readable(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.4}"),
    }
}

/// A table of them on standard output.
pub(crate) fn print_figures(figures: &[Figure]) {
    let rows: Vec<_> = figures.iter().map(Figure::cells).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, value, target, verdict] = [0, 1, 2, 3].map(width);
    for row in &rows {
        let [a, b, c, d, e] = row;
        let line = format!("  {a:name$}  {b:>value$}  {c:target$}  {d:verdict$}  {e}");
        println!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_target() {
        let verdict = |value: Option<f64>, target| Figure::new("x", value, "").target(target).verdict();
        assert_eq!(verdict(Some(0.95), Target::AtLeast(0.95)), "met");
        assert_eq!(verdict(Some(0.949), Target::AtLeast(0.95)), "MISSED");
        assert_eq!(verdict(Some(50.0), Target::Below(50.0)), "MISSED");
        assert_eq!(verdict(Some(2.0), Target::Within(0.5, 2.0)), "met");
        assert_eq!(verdict(None, Target::Below(1.0)), "not measured");
        assert_eq!(Figure::new("x", 1.0, "s").verdict(), "");
    }

    #[test]
    fn numbers_have_three_digits_that_matter() {
        let texts = [1234.4, 56.78, 0.951, 0.00123, 0.0].map(readable);
        assert_eq!(texts, ["1234", "56.8", "0.95", "0.0012", "0"]);
    }
}
