//! Figures of one row: what each contestant reached in each round, and what was to be reached.

use std::collections::BTreeMap;

use crate::trouble::Result;

/// What one measurement gave: names of figures and their values.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) figures: Vec<(&'static str, f64)>,
    /// Nanoseconds; percentiles are taken over all rounds together, because the rare ones need many.
    pub(crate) times: Vec<u64>,
}

impl Sample {
    pub(crate) fn of(figure: &'static str, value: f64) -> Self {
        Self { figures: vec![(figure, value)], times: Vec::new() }
    }

    pub(crate) fn and(mut self, figure: &'static str, value: f64) -> Self {
        self.figures.push((figure, value));
        self
    }
}

/// A figure as it is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
}

/// What measures one contestant once.
pub(crate) type Measure = Box<dyn Fn(&crate::rows::Bench) -> Result<Sample>>;

pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) measure: Measure,
}

/// One line of the benchmark: contestants who are measured in turn, side by side.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// The first one is drawn.
    pub(crate) figures: &'static [Figure],
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) targets: Vec<Target>,
    /// Where what is measured hardly varies and takes long, fewer rounds do.
    pub(crate) rounds_max: usize,
    /// What the figures come to, for a reader.
    pub(crate) remark: Option<fn(&Measured) -> String>,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Against {
    /// The same figure of another contestant, times a factor.
    Peer(&'static str, f64),
    /// A number in the figure's unit.
    Number(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sense {
    AtLeast,
    AtMost,
}

/// Whether it has to be reached or would be welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Must,
    Goal,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) weight: Weight,
    pub(crate) who: &'static str,
    pub(crate) figure: &'static str,
    pub(crate) sense: Sense,
    pub(crate) against: Against,
}

/// Values of one figure of one contestant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    /// In the order of the rounds.
    pub(crate) rounds: Vec<f64>,
    /// Over all rounds, where it is not the median of them.
    pub(crate) pooled: Option<f64>,
}

impl Values {
    pub(crate) fn value(&self) -> f64 {
        self.pooled.unwrap_or_else(|| median(&self.rounds))
    }

    pub(crate) fn least(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::INFINITY, f64::min)
    }

    pub(crate) fn most(&self) -> f64 {
        self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }
}

/// What came of one contestant.
#[derive(Debug, Default)]
pub(crate) struct Score {
    values: BTreeMap<&'static str, Values>,
    times: Vec<u64>,
    /// Why there are no values, or fewer than rounds.
    pub(crate) trouble: Option<String>,
}

impl Score {
    pub(crate) fn add(&mut self, sample: Sample) {
        for (name, value) in sample.figures {
            self.values.entry(name).or_default().rounds.push(value);
        }
        if sample.times.is_empty() {
            return;
        }
        for (name, value) in percentiles(&mut sample.times.clone()) {
            self.values.entry(name).or_default().rounds.push(value);
        }
        self.times.extend(sample.times);
        for (name, value) in percentiles(&mut self.times) {
            self.values.entry(name).or_default().pooled = Some(value);
        }
    }

    pub(crate) fn get(&self, figure: &str) -> Option<&Values> {
        self.values.get(figure)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &Values)> {
        self.values.iter().map(|(name, values)| (*name, values))
    }
}

/// Names under which times are found, and their shares.
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Microseconds, of nanoseconds that are not empty: the least time that so many do not exceed.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and times stay far below 2^52, and shares are below 1"
)]
fn percentiles(times: &mut [u64]) -> [(&'static str, f64); 3] {
    times.sort_unstable();
    PERCENTILES.map(|(name, share)| {
        let rank = (times.len() as f64 * share).ceil() as usize;
        (name, times[rank.clamp(1, times.len()) - 1] as f64 / 1e3)
    })
}

/// The row as it was measured.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) scores: Vec<(&'static str, Score)>,
}

impl Measured {
    pub(crate) fn values(&self, contestant: &str, figure: &str) -> Option<&Values> {
        self.scores.iter().find(|(name, _)| *name == contestant)?.1.get(figure)
    }
}

/// How a target was met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// Against a peer: the median of the ratios of each round, which are of neighbours in time. Against a number:
    /// the figure itself.
    pub(crate) found: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
    pub(crate) bound: f64,
    pub(crate) is_met: bool,
}

impl Target {
    /// `None` where one of the figures is missing.
    pub(crate) fn judge(&self, measured: &Measured) -> Option<Verdict> {
        let ours = measured.values(self.who, self.figure)?;
        let (values, bound) = match self.against {
            Against::Number(bound) => (ours.clone(), bound),
            Against::Peer(peer, factor) => {
                let theirs = measured.values(peer, self.figure)?;
                let rounds = ours.rounds.iter().zip(&theirs.rounds).map(|(ours, theirs)| ours / theirs);
                let pooled = ours.pooled.zip(theirs.pooled).map(|(ours, theirs)| ours / theirs);
                (Values { rounds: rounds.collect(), pooled }, factor)
            }
        };
        let found = values.value();
        let is_met = match self.sense {
            Sense::AtLeast => found >= bound,
            Sense::AtMost => found <= bound,
        };
        Some(Verdict { found, least: values.least(), most: values.most(), bound, is_met })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ours: &[f64], theirs: &[f64]) -> Measured {
        let score = |values: &[f64]| {
            let mut score = Score::default();
            values.iter().for_each(|value| score.add(Sample::of("rate", *value)));
            score
        };
        Measured { scores: vec![("ours", score(ours)), ("theirs", score(theirs))] }
    }

    fn at_least(against: Against) -> Target {
        Target { weight: Weight::Must, who: "ours", figure: "rate", sense: Sense::AtLeast, against }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_neighbours() {
        // A machine that slows down over the rounds changes no ratio.
        let measured = measured(&[90.0, 45.0, 9.0], &[100.0, 50.0, 10.0]);
        let verdict = at_least(Against::Peer("theirs", 0.85)).judge(&measured).unwrap();
        assert!((verdict.found - 0.9).abs() < 1e-9 && verdict.is_met, "{verdict:?}");
        assert!(!at_least(Against::Peer("theirs", 0.95)).judge(&measured).unwrap().is_met);
        assert!(!at_least(Against::Number(46.0)).judge(&measured).unwrap().is_met);
        assert!(at_least(Against::Peer("nobody", 1.0)).judge(&measured).is_none());
    }

    #[test]
    fn rare_times_are_looked_for_in_all_rounds_together() {
        let mut score = Score::default();
        for round in 0..5 {
            let times =
                (0..400).map(|index| if round == 0 && index < 4 { 1_000_000 } else { 1000 }).collect();
            score.add(Sample { times, ..Sample::default() });
        }
        let value = |name| score.get(name).unwrap();
        assert_eq!((value("p50").value(), value("p99").value(), value("p99.9").value()), (1.0, 1.0, 1000.0));
        assert_eq!(value("p99.9").least(), 1.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }
}
