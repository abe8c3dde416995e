//! Histograms with one writer: a record is two plain loads and stores, a scrape adds the workers' up.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, inclusive; one more bucket takes what is above the last. From a wake-up between two
/// threads to the longest that `spin` may run, three steps a decade, which places a percentile within a factor of 2.5.
pub(crate) const BOUNDS: [Duration; 21] = [
    Duration::from_micros(10),
    Duration::from_micros(20),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(60),
];

const BUCKETS: usize = BOUNDS.len() + 1;

/// The bounds as one number each, which compares in one instruction.
const BOUNDS_NANOS: [u64; BOUNDS.len()] = {
    let mut nanos = [0; BOUNDS.len()];
    let mut place = 0;
    while place < BOUNDS.len() {
        nanos[place] = BOUNDS[place].as_secs() * 1_000_000_000 + BOUNDS[place].subsec_nanos() as u64;
        place += 1;
    }
    nanos
};

/// A counter with one writer needs no locked instruction.
pub(super) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What one worker measured of one operation.
#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Adds a measurement. For the one writer alone; readers may look at any time.
    pub(crate) fn record(&self, time: Duration) {
        let time = nanos(time);
        let place = BOUNDS_NANOS.partition_point(|bound| *bound < time);
        bump(&self.buckets[place], 1);
        bump(&self.sum_nanos, time);
    }

    /// Adds all that another has measured, which is not written to any more.
    pub(super) fn add(&self, other: &Self) {
        for (sum, count) in self.buckets.iter().zip(&other.buckets) {
            bump(sum, count.load(Ordering::Relaxed));
        }
        bump(&self.sum_nanos, other.sum_nanos.load(Ordering::Relaxed));
    }
}

/// The sum of what several workers measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HistogramSnapshot {
    /// Measurements by bucket, not cumulative; the last bucket is unbounded.
    pub counts: [u64; BUCKETS],
    /// Sum of all measurements.
    pub sum: Duration,
}

impl HistogramSnapshot {
    /// Upper bounds of all buckets but the last, inclusive.
    pub const BOUNDS: [Duration; BUCKETS - 1] = BOUNDS;

    /// Adds up.
    pub(crate) fn of<'a>(histograms: impl Iterator<Item = &'a Histogram>) -> Self {
        let mut snapshot = Self::default();
        for histogram in histograms {
            for (sum, count) in snapshot.counts.iter_mut().zip(&histogram.buckets) {
                *sum += count.load(Ordering::Relaxed);
            }
            snapshot.sum += Duration::from_nanos(histogram.sum_nanos.load(Ordering::Relaxed));
        }
        snapshot
    }

    /// Number of measurements.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_from_ten_microseconds_to_a_minute() {
        assert!(BOUNDS.is_sorted_by(|a, b| a < b));
        assert_eq!((BOUNDS[0], BOUNDS[20]), (Duration::from_micros(10), Duration::from_secs(60)));
    }

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_what_is_above_all_to_the_last() {
        let histogram = Histogram::default();
        for (place, bound) in BOUNDS.into_iter().enumerate() {
            histogram.record(bound);
            let snapshot = HistogramSnapshot::of([&histogram].into_iter());
            assert_eq!(snapshot.counts[place], 1, "{bound:?}");
        }
        histogram.record(Duration::from_secs(61));
        let snapshot = HistogramSnapshot::of([&histogram, &histogram].into_iter());
        assert_eq!(snapshot.counts, [2; BUCKETS]);
        assert_eq!(snapshot.sum, 2 * (BOUNDS.iter().sum::<Duration>() + Duration::from_secs(61)));
        assert_eq!(snapshot.count(), 2 * BUCKETS as u64);
    }
}
