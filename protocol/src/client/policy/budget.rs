//! How much may be tried again in all: a share of what was asked for, so that a daemon which refuses is not asked
//! several times as much because it refuses.
//!
//! A token bucket of the client's own. The share is that of Beyer et al., *Site Reliability Engineering* (2016),
//! chapter 21, "Handling Overload" (retries of a client are at most 10 % of its requests); the bucket is that of
//! gRPC's retry throttling (gRFC A6), filled by requests instead of by successes, so that its bound holds whatever
//! the daemon answers.

use crate::client::options::RetryBudget;

/// A repetition's price; a request pays in its per cent of it.
const TOKEN: u64 = 100;

pub(super) struct Budget {
    /// Hundredths of a repetition.
    level: u64,
    deposit: u64,
    level_max: u64,
}

impl Budget {
    /// A full one: a client that has just begun may already be unlucky.
    pub(super) fn new(settings: RetryBudget) -> Self {
        let level_max = u64::from(settings.burst) * TOKEN;
        Self { level: level_max, deposit: u64::from(settings.percent), level_max }
    }

    /// A request was made.
    pub(super) fn deposit(&mut self) {
        self.level = (self.level + self.deposit).min(self.level_max);
    }

    /// Takes the price of one repetition, if it is there.
    #[must_use]
    pub(super) fn withdraw(&mut self) -> bool {
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of as many repetitions as there are requests are granted.
    fn granted(settings: RetryBudget, requests: usize) -> usize {
        let mut budget = Budget::new(settings);
        (0..requests)
            .filter(|_| {
                budget.deposit();
                budget.withdraw()
            })
            .count()
    }

    #[test]
    fn repetitions_are_a_share_of_the_requests_and_a_few_at_the_start() {
        let settings = RetryBudget { percent: 10, burst: 10 };
        assert_eq!(granted(settings, 5), 5);
        // The bucket is full when the first request comes, which therefore adds nothing.
        assert_eq!(granted(settings, 1001), 10 + 100);
        assert_eq!(granted(RetryBudget { percent: 0, burst: 3 }, 1000), 3);
        assert_eq!(granted(RetryBudget { percent: 10, burst: 0 }, 1000), 0);
    }

    #[test]
    fn quiet_times_save_up_no_more_than_the_burst() {
        let mut budget = Budget::new(RetryBudget { percent: 10, burst: 2 });
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!((0..10).filter(|_| budget.withdraw()).count(), 2);
    }
}
