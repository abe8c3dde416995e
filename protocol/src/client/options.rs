//! How a client behaves, apart from what it asks for.

use std::time::Duration;

use fastrand::Rng;

use crate::limits::{FRAME_BYTES_MIN, NAME_BYTES_MAX};

/// Settings of a client. [`Options::named`] gives values that suit most; every field may be changed.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the client calls itself in the daemon's status and log; cut to 64 bytes.
    pub client: String,
    /// Longest time for connecting and for the daemon's Welcome together.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to a request without a deadline, a Ping, a Query or a Close.
    pub answer_timeout: Duration,
    /// How much later than its deadline a request is given up here. The daemon answers before that; this guards
    /// against one that does not.
    pub deadline_grace: Duration,
    /// Largest frame that is read, bytes, at least 32 KiB; an output larger than this is refused by the daemon.
    pub frame_bytes_max: u32,
    /// Most requests in flight on a connection; the daemon's own bound applies as well.
    pub in_flight_max: u32,
    /// How often a call is tried in all, connecting included; at least 1. An address that cannot be reached counts
    /// only once all the others have been tried, too.
    pub attempts_max: u32,
    /// The wait between two attempts, and how long a daemon that fails is passed over.
    pub backoff: Backoff,
    /// How much may be tried again over all calls.
    pub retry_budget: RetryBudget,
}

/// What all repetitions of a client together may come to, so that a daemon which refuses is not asked several times as
/// much because it refuses. Of *n* requests at most `burst + n × percent / 100` are sent again. Nothing is
/// taken for what no daemon has begun to look at: a connection that could not be made, a request that a draining
/// daemon did not accept.
#[derive(Debug, Clone, Copy)]
pub struct RetryBudget {
    /// Repetitions that a hundred requests earn.
    pub percent: u32,
    /// Repetitions that are there at the start, and the most that can be saved up.
    pub burst: u32,
}

/// Exponential back-off with full jitter (Brooker, *Exponential Backoff and Jitter*, AWS Architecture Blog, 2015): before attempt *n* + 1 a random time between zero and
/// `min(longest, first × 2ⁿ⁻¹)`, so that clients that failed together do not come back together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// Upper end of the first wait.
    pub first: Duration,
    /// Upper end of every wait.
    pub longest: Duration,
}

impl Options {
    /// The usual settings for a client of this name.
    pub fn named(client: impl Into<String>) -> Self {
        Self {
            client: client.into(),
            connect_timeout: Duration::from_secs(5),
            // The longest deadline that a daemon grants by default is 10 minutes.
            answer_timeout: Duration::from_secs(11 * 60),
            deadline_grace: Duration::from_secs(1),
            frame_bytes_max: 256 * 1024 * 1024,
            in_flight_max: 1024,
            attempts_max: 4,
            backoff: Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(5) },
            retry_budget: RetryBudget { percent: 10, burst: 10 },
        }
    }

    /// What a Hello announces: no less than every peer may count on.
    pub(super) fn frame_bytes_announced(&self) -> u32 {
        self.frame_bytes_max.max(FRAME_BYTES_MIN)
    }

    /// The name as it fits into a Hello.
    pub(super) fn client_bounded(&self) -> &str {
        &self.client[..self.client.floor_char_boundary(NAME_BYTES_MAX)]
    }
}

impl Backoff {
    /// The wait after `failed` attempts (1 or more).
    pub(super) fn wait(self, failed: u32, rng: &mut Rng) -> Duration {
        self.ceiling(failed).mul_f64(rng.f64())
    }

    /// The longest wait after `failed` attempts.
    pub(super) fn ceiling(self, failed: u32) -> Duration {
        self.first.saturating_mul(1 << failed.saturating_sub(1).min(20)).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_waits_are_spread_below_a_doubling_bounded_ceiling() {
        let backoff = Backoff { first: Duration::from_millis(10), longest: Duration::from_millis(50) };
        for (failed, ceiling) in [(1, 10), (2, 20), (3, 40), (4, 50), (40, 50)] {
            let mut rng = Rng::with_seed(1);
            let waits: Vec<_> = (0..64).map(|_| backoff.wait(failed, &mut rng)).collect();
            assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(ceiling)), "{failed}");
            // Full jitter: the waits fill all of the room below the ceiling.
            assert!(waits.iter().any(|wait| *wait < Duration::from_millis(ceiling) / 8), "{failed}");
            assert!(waits.iter().any(|wait| *wait > Duration::from_millis(ceiling) * 7 / 8), "{failed}");
        }
    }

    #[test]
    fn a_long_client_name_is_cut_between_characters() {
        let options = Options::named("ä".repeat(40));
        assert_eq!(options.client_bounded(), "ä".repeat(32));
    }
}
