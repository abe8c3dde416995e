//! The arithmetic of the figures.

use std::time::Duration;

/// The smallest of the values that at least `percent` of them do not exceed (nearest rank); `None` of none.
pub(crate) fn percentile<T: Copy + PartialOrd>(values: &mut [T], percent: f64) -> Option<T> {
    values.sort_unstable_by(|one, other| one.partial_cmp(other).unwrap_or(std::cmp::Ordering::Equal));
    let rank = (percent / 100.0 * as_f64(values.len())).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the length")]
    let rank = rank as usize;
    values.get(rank.clamp(1, values.len().max(1)) - 1).copied()
}

/// The part of the values that `is_so`; `None` of none.
pub(crate) fn share<T>(values: &[T], is_so: impl Fn(&T) -> bool) -> Option<f64> {
    let count = values.iter().filter(|value| is_so(value)).count();
    (!values.is_empty()).then(|| as_f64(count) / as_f64(values.len()))
}

/// `part / whole`, or `None` where there is nothing to be a part of.
pub(crate) fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Counts of requests and bytes stay far below 2^52, up to which this is exact.
#[allow(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}

/// Milliseconds with their part.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        for (percent, expected) in [(0.0, 1), (1.0, 1), (50.0, 50), (99.0, 99), (99.1, 100), (100.0, 100)] {
            assert_eq!(percentile(&mut values, percent), Some(expected), "{percent}");
        }
        assert_eq!(percentile(&mut [7.5], 99.0), Some(7.5));
        assert_eq!(percentile::<f64>(&mut [], 50.0), None);
    }

    #[test]
    fn shares_and_ratios_of_nothing_are_nothing() {
        assert_eq!(share(&[1, 2, 3, 4], |value| *value > 1), Some(0.75));
        assert_eq!(share::<u8>(&[], |_| true), None);
        assert_eq!(ratio(1.0, 4.0), Some(0.25));
        assert_eq!(ratio(1.0, 0.0), None);
    }
}
