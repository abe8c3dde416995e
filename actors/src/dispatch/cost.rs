//! What requests really cost: the operations' own estimates, corrected by what the workers measure.
//!
//! An operation's formula knows its arguments and the length of the input, but not this machine. So each operation
//! has a correction for each magnitude of its estimates: the logarithm of measured to estimated time, followed by a
//! Huber estimator (Huber 1964), which one outlier moves by a small step only, however far out it lies.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::job::Cost;
use crate::operation::{Estimate, OperationIndex};

/// Magnitudes of an estimate: powers of four of microseconds, from 1 µs to 2^30 µs, a quarter of an hour.
const MAGNITUDES: usize = 16;

/// Steps of an octave in which corrections are kept.
const STEPS: f64 = 256.0;

/// Measurements that count whole, because nothing is known yet.
const FIRST: u16 = 8;

/// Measurements after which a correction stands, until the machine changes.
const SETTLED: u16 = 256;

/// Measurements after which a correction is believed against a request.
const BELIEVED: u16 = 64;

/// Afterwards a measurement moves the correction by one part in this many of its distance,
const WEIGHT: i32 = 16;

/// of which at most one octave counts.
const DISTANCE_MAX: i32 = 256;

/// Most that anything is corrected by, in steps: 2^16 times. No formula is that wrong, and whatever is added up from
/// estimates stays far from what a [`Duration`] holds.
const CORRECTION_MAX: i32 = 16 * 256;

/// The corrections of all operations. Written by workers, read at admission; a lost update is a lost measurement.
#[derive(Debug)]
pub(crate) struct CostModel {
    corrections: Vec<[AtomicU64; MAGNITUDES]>,
}

/// By how much estimates of one magnitude are off.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Correction {
    /// Logarithm to the base of two, in [`STEPS`].
    log: i16,
    /// Measurements, up to [`u16::MAX`].
    n: u16,
    /// What `log` stands for, so that admission only has to multiply.
    factor: f32,
}

impl Default for Correction {
    fn default() -> Self {
        Self { log: 0, n: 0, factor: 1.0 }
    }
}

impl Correction {
    fn unpack(word: u64) -> Self {
        let [a, b, c, d, factor @ ..] = word.to_le_bytes();
        Self {
            log: i16::from_le_bytes([a, b]),
            n: u16::from_le_bytes([c, d]),
            factor: f32::from_le_bytes(factor),
        }
    }

    fn pack(self) -> u64 {
        let ([a, b], [c, d], [e, f, g, h]) =
            (self.log.to_le_bytes(), self.n.to_le_bytes(), self.factor.to_le_bytes());
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    #[allow(
        clippy::cast_possible_truncation,
        reason = "the logarithm of a ratio of two times is below 100, and what is kept is clamped"
    )]
    fn learn(self, estimated: Duration, took: Duration) -> Self {
        let log = (STEPS * (took.as_secs_f64() / estimated.as_secs_f64()).log2()) as i32;
        let distance = log - i32::from(self.log);
        let step = if self.n < FIRST {
            distance / (i32::from(self.n) + 1)
        } else {
            distance.clamp(-DISTANCE_MAX, DISTANCE_MAX) / WEIGHT
        };
        let log = (i32::from(self.log) + step).clamp(-CORRECTION_MAX, CORRECTION_MAX);
        let factor = (f64::from(log) / STEPS).exp2() as f32;
        Self { log: log as i16, n: self.n.saturating_add(1), factor }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a factor is positive, an estimate is one, and casts saturate"
    )]
    fn apply(self, estimated: Duration) -> Duration {
        if self.log == 0 {
            return estimated;
        }
        let nanos = u64::try_from(estimated.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos((nanos as f64 * f64::from(self.factor)) as u64)
    }
}

/// Times are compared from here on: below, measuring costs as much as what is measured.
const LEAST: Duration = Duration::from_micros(1);

fn magnitude(estimated: Duration) -> usize {
    let micros = u64::try_from(estimated.as_micros()).unwrap_or(u64::MAX).max(1);
    (micros.ilog2() as usize / 2).min(MAGNITUDES - 1)
}

impl CostModel {
    pub(crate) fn new(n_operations: usize) -> Self {
        Self { corrections: (0..n_operations).map(|_| Default::default()).collect() }
    }

    /// What an operation estimates, as this machine has taught it. Some 10 ns once anything was measured.
    pub(crate) fn cost(&self, operation: OperationIndex, estimate: Estimate) -> Cost {
        let Some(corrections) = self.corrections.get(usize::from(operation.0)) else {
            return Cost { estimate, cpu: estimate.cpu, is_known: false };
        };
        let correction = nearest(corrections, magnitude(estimate.cpu));
        Cost { estimate, cpu: correction.apply(estimate.cpu), is_known: correction.n >= BELIEVED }
    }

    /// Whether so much was measured that one more says little.
    pub(crate) fn is_settled(&self, operation: OperationIndex, estimated: Duration) -> bool {
        let corrections = self.corrections.get(usize::from(operation.0));
        corrections.is_none_or(|corrections| nearest(corrections, magnitude(estimated)).n >= SETTLED)
    }

    /// A worker has measured what was estimated.
    pub(crate) fn learn(&self, operation: OperationIndex, estimated: Duration, took: Duration) {
        let Some(corrections) = self.corrections.get(usize::from(operation.0)) else { return };
        let (estimated, took) = (estimated.max(LEAST), took.max(LEAST));
        let place = magnitude(estimated);
        let learned = nearest(corrections, place).learn(estimated, took);
        corrections[place].store(learned.pack(), Ordering::Relaxed);
    }
}

/// What is known of a magnitude, or else of the one next to it of which anything is, to start from.
fn nearest(corrections: &[AtomicU64; MAGNITUDES], place: usize) -> Correction {
    let at = |place: usize| {
        let word = corrections.get(place)?.load(Ordering::Relaxed);
        (word != 0).then(|| Correction::unpack(word))
    };
    if let Some(correction) = at(place) {
        return correction;
    }
    let neighbours =
        (1..MAGNITUDES).find_map(|off| place.checked_sub(off).and_then(at).or_else(|| at(place + off)));
    Correction { n: 0, ..neighbours.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: OperationIndex = OperationIndex(0);

    fn model() -> CostModel {
        CostModel::new(1)
    }

    fn correct(model: &CostModel, operation: OperationIndex, cpu: Duration) -> Duration {
        model.cost(operation, Estimate { cpu, output_bytes: 0, work_bytes: 0 }).cpu
    }

    fn ratio(model: &CostModel, estimated: Duration, real: Duration) -> f64 {
        correct(model, OPERATION, estimated).as_secs_f64() / real.as_secs_f64()
    }

    #[test]
    fn a_formula_that_is_off_by_a_hundred_is_mended_by_a_few_jobs_at_every_size() {
        for (factor, by) in [(100, 1), (1, 100)] {
            let model = model();
            for micros in [1_u64, 10, 100, 1000, 10_000, 100_000, 1_000_000] {
                let estimated = Duration::from_micros(micros * 100);
                let real = estimated * factor / by;
                (0..20).for_each(|_| model.learn(OPERATION, estimated, real));
                assert!((0.8..1.25).contains(&ratio(&model, estimated, real)), "{estimated:?} for {real:?}");
            }
        }
    }

    #[test]
    fn each_magnitude_has_a_correction_of_its_own_and_starts_from_its_neighbours() {
        let model = model();
        let (small, large) = (Duration::from_micros(10), Duration::from_secs(1));
        (0..50).for_each(|_| model.learn(OPERATION, small, small * 4));
        assert!((0.9..1.1).contains(&ratio(&model, large, large * 4)), "nothing better is known");
        (0..50).for_each(|_| model.learn(OPERATION, large, large));
        assert!((0.9..1.1).contains(&ratio(&model, small, small * 4)));
        assert!((0.9..1.1).contains(&ratio(&model, large, large)));
    }

    #[test]
    fn what_was_measured_often_is_believed_against_a_request_and_an_opinion_is_not() {
        let model = model();
        let estimate = Estimate { cpu: Duration::from_millis(10), output_bytes: 0, work_bytes: 0 };
        let least = || model.cost(OPERATION, estimate).cpu_least().as_millis();
        assert_eq!(least(), 10);
        (0..20).for_each(|_| model.learn(OPERATION, estimate.cpu, estimate.cpu * 4));
        assert_eq!(least(), 10, "it may be chance");
        (0..100).for_each(|_| model.learn(OPERATION, estimate.cpu, estimate.cpu * 4));
        assert!((35..37).contains(&least()), "{}", least());
    }

    #[test]
    fn outliers_move_it_little() {
        let model = model();
        let real = Duration::from_millis(1);
        for n in 0..1000 {
            model.learn(OPERATION, real, if n % 10 == 9 { real * 1000 } else { real });
        }
        assert!((0.8..1.5).contains(&ratio(&model, real, real)), "{}", ratio(&model, real, real));
    }

    #[test]
    fn it_follows_a_machine_that_has_become_slower() {
        let model = model();
        let estimated = Duration::from_millis(1);
        (0..1000).for_each(|_| model.learn(OPERATION, estimated, estimated));
        (0..100).for_each(|_| model.learn(OPERATION, estimated, estimated * 3));
        assert!((0.9..1.1).contains(&ratio(&model, estimated, estimated * 3)));
    }

    #[test]
    fn nothing_is_too_small_or_too_large() {
        let model = model();
        model.learn(OPERATION, Duration::ZERO, Duration::ZERO);
        model.learn(OPERATION, Duration::MAX, Duration::ZERO);
        model.learn(OPERATION, Duration::ZERO, Duration::MAX);
        correct(&model, OPERATION, Duration::MAX);
        model.learn(OperationIndex(7), Duration::ZERO, Duration::ZERO);
        assert_eq!(correct(&model, OperationIndex(7), LEAST), LEAST);
    }
}
