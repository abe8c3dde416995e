//! How well one worker's jobs of one operation were estimated. One writer, like its histograms.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{bump, nanos};

/// Steps of an octave between the ratios that are told apart.
const STEPS: f64 = 4.0;

/// Ratios from 1/16 to 13; what lies beyond counts as these.
const RATIOS: usize = 32;

/// Ratios that are remembered, at the most; older ones fade out by halves.
const REMEMBERED: u64 = 256;

/// What was measured, over what was estimated.
#[derive(Default)]
pub(crate) struct Accuracy {
    ratios: [AtomicU64; RATIOS],
    n: AtomicU64,
    formula_nanos: AtomicU64,
    estimated_nanos: AtomicU64,
    took_nanos: AtomicU64,
}

impl Accuracy {
    /// Adds a job: what its operation's formula said, that as corrected, and what it took. For the one writer alone.
    pub(super) fn record(&self, formula: Duration, estimated: Duration, took: Duration) {
        let remembered = self.ratios.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
        if remembered >= REMEMBERED {
            for count in &self.ratios {
                count.store(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
            }
        }
        bump(&self.ratios[place(estimated, took)], 1);
        bump(&self.n, 1);
        bump(&self.formula_nanos, nanos(formula));
        bump(&self.estimated_nanos, nanos(estimated));
        bump(&self.took_nanos, nanos(took));
    }

    /// Adds what another worker has measured; for the one owner of `self`.
    pub(super) fn add(&self, other: &Self) {
        let sums = [&self.n, &self.formula_nanos, &self.estimated_nanos, &self.took_nanos];
        let others = [&other.n, &other.formula_nanos, &other.estimated_nanos, &other.took_nanos];
        for (sum, more) in self.ratios.iter().chain(sums).zip(other.ratios.iter().chain(others)) {
            bump(sum, more.load(Ordering::Relaxed));
        }
    }
}

/// Below this, measuring costs as much as what is measured.
const LEAST: Duration = Duration::from_micros(1);

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the table, as clamped")]
fn place(estimated: Duration, took: Duration) -> usize {
    let ratio = took.max(LEAST).as_secs_f64() / estimated.max(LEAST).as_secs_f64();
    let middle = (RATIOS / 2) as f64;
    (ratio.log2() * STEPS + middle).round().clamp(0.0, (RATIOS - 1) as f64) as usize
}

/// The sum of what several workers measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AccuracySnapshot {
    /// Jobs that were measured: all but some of the lightest.
    pub measured: u64,
    /// What the operation's formula said of them.
    pub formula: Duration,
    /// That, as corrected by what was measured before each.
    pub estimated: Duration,
    /// What they took.
    pub took: Duration,
    /// Median of measured over estimated time of the last few hundred, within a tenth; `None` before the first.
    pub median_ratio: Option<f64>,
}

impl AccuracySnapshot {
    /// Adds up.
    pub(super) fn of<'a>(workers: impl Iterator<Item = &'a Accuracy>) -> Self {
        let mut snapshot = Self::default();
        let mut ratios = [0; RATIOS];
        let time = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        for accuracy in workers {
            for (sum, count) in ratios.iter_mut().zip(&accuracy.ratios) {
                *sum += count.load(Ordering::Relaxed);
            }
            snapshot.measured += accuracy.n.load(Ordering::Relaxed);
            snapshot.formula += time(&accuracy.formula_nanos);
            snapshot.estimated += time(&accuracy.estimated_nanos);
            snapshot.took += time(&accuracy.took_nanos);
        }
        Self { median_ratio: median(&ratios), ..snapshot }
    }
}

fn median(ratios: &[u64; RATIOS]) -> Option<f64> {
    let half = ratios.iter().sum::<u64>().div_ceil(2);
    let reached = ratios.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    let place = reached.take_while(|sum| *sum < half).count();
    (half > 0).then(|| ((place as f64 - (RATIOS / 2) as f64) / STEPS).exp2())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(jobs: impl IntoIterator<Item = (u64, u64)>) -> AccuracySnapshot {
        let accuracy = Accuracy::default();
        for (estimated, took) in jobs {
            let estimated = Duration::from_micros(estimated);
            accuracy.record(2 * estimated, estimated, Duration::from_micros(took));
        }
        AccuracySnapshot::of([&accuracy].into_iter())
    }

    #[test]
    fn the_median_is_of_the_last_jobs_and_the_sums_are_of_all() {
        assert_eq!(after([]).median_ratio, None);
        let mixed = after([(100, 100), (100, 100), (100, 10_000)]);
        assert_eq!(mixed.median_ratio, Some(1.0));
        assert_eq!(mixed.measured, 3);
        assert_eq!(
            (mixed.formula.as_micros(), mixed.estimated.as_micros(), mixed.took.as_micros()),
            (600, 300, 10_200)
        );
        let learned = after([(100, 400); 300].into_iter().chain([(100, 100); 300]));
        assert_eq!(learned.median_ratio, Some(1.0));
    }

    #[test]
    fn ratios_beyond_the_table_count_as_its_ends() {
        assert!(after([(1, 1_000_000)]).median_ratio > Some(13.0));
        assert_eq!(after([(1_000_000, 1)]).median_ratio, Some(1.0 / 16.0));
        assert_eq!(after([(100, 200)]).median_ratio, Some(2.0));
    }
}
