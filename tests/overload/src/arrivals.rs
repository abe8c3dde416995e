//! When requests are due. Drawn before the first is sent, so that nothing a daemon does can move them.

use std::time::Duration;

use fastrand::Rng;

/// Times since the start of a load, rising.
pub(crate) type Arrivals = Vec<Duration>;

/// Independent requests (a Poisson process) of a mean rate, for a time: what many clients who know nothing of each
/// other send together.
pub(crate) fn poisson(per_second: f64, time: Duration, rng: &mut Rng) -> Arrivals {
    let mut at = 0.0;
    std::iter::from_fn(|| {
        // 1 - x is never 0, whose logarithm there is not.
        at -= (1.0 - rng.f64()).ln() / per_second;
        Some(Duration::from_secs_f64(at.min(time.as_secs_f64())))
    })
    .take_while(|due| *due < time)
    .collect()
}

/// Even distances, the first after `phase` of one.
pub(crate) fn even(per_second: f64, phase: f64, time: Duration) -> Arrivals {
    // Multiplied, not added up: an error of rounding must not grow over the run.
    (0_u32..)
        .map(|number| Duration::from_secs_f64((f64::from(number) + phase) / per_second))
        .take_while(|due| *due < time)
        .collect()
}

/// Dealt out to `hands` connections, in turn.
pub(crate) fn deal(arrivals: &Arrivals, hands: usize) -> Vec<Arrivals> {
    (0..hands).map(|hand| arrivals.iter().skip(hand).step_by(hands).copied().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(100);

    #[test]
    fn independent_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() {
        let arrivals = poisson(50.0, TIME, &mut Rng::with_seed(5));
        assert!(arrivals.is_sorted() && arrivals.iter().all(|due| *due < TIME));
        // 5,000 are expected, with a deviation of its root, 71.
        assert!((4_700..5_300).contains(&arrivals.len()), "{}", arrivals.len());
        let per_second: Vec<f64> = (0..100)
            .map(|second| {
                let count = arrivals.iter().filter(|due| due.as_secs() == second).count();
                crate::numbers::as_f64(count)
            })
            .collect();
        let mean = per_second.iter().sum::<f64>() / 100.0;
        let variance = per_second.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 100.0;
        assert!((25.0..85.0).contains(&variance), "a variance like the mean of 50: {variance}");
    }

    #[test]
    fn even_arrivals_do_not_drift() {
        let arrivals = even(3.0, 0.5, TIME);
        assert_eq!(arrivals.len(), 300);
        let last = Duration::from_secs_f64(299.5 / 3.0);
        assert!(arrivals[299].abs_diff(last) < Duration::from_nanos(10));
        assert_eq!(even(3.0, 0.0, TIME)[0], Duration::ZERO);
    }

    #[test]
    fn what_is_dealt_out_is_all_there_once() {
        let arrivals = even(7.0, 0.0, TIME);
        let hands = deal(&arrivals, 4);
        assert!(hands.iter().all(|hand| hand.is_sorted() && hand.len() == 175));
        let mut together: Arrivals = hands.concat();
        together.sort_unstable();
        assert_eq!(together, arrivals);
    }
}
