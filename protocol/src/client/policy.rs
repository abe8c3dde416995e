//! What may be tried again, and when.

use std::time::{Duration, Instant};

use super::error::CallError;
use super::options::Options;
use super::request::{Request, Retry};

/// The attempts of one call.
pub(super) struct Attempts {
    retry: Retry,
    failed: u32,
    /// When the answer is no longer wanted; made once, when the call begins.
    deadline: Option<Instant>,
    /// When the client stops waiting whatever the daemon does.
    give_up: Instant,
    began: Instant,
}

impl Attempts {
    pub(super) fn begin(request: &Request, options: &Options, began: Instant) -> Self {
        let patience = request
            .deadline
            .map_or(options.answer_timeout, |deadline| deadline.saturating_add(options.deadline_grace));
        Self {
            retry: request.retry,
            failed: 0,
            deadline: request.deadline.and_then(|deadline| began.checked_add(deadline)),
            give_up: later(began, patience),
            began,
        }
    }

    pub(super) fn give_up(&self) -> Instant {
        self.give_up
    }

    /// What is left of the deadline at `now`, for the header of an attempt.
    pub(super) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(now))
    }

    pub(super) fn exceeded(&self, now: Instant) -> CallError {
        CallError::DeadlineExceeded { waited: now.saturating_duration_since(self.began) }
    }

    /// How long to wait before the next attempt, or `None` when `error` is the call's result: it is final, not
    /// safe to repeat, or there are no attempts or no time left.
    pub(super) fn wait_after(
        &mut self,
        error: &CallError,
        options: &Options,
        now: Instant,
    ) -> Option<Duration> {
        self.failed += 1;
        let allowed = match self.retry {
            Retry::Never => false,
            Retry::Safe => error.is_retry_safe(),
            Retry::Pure => true,
        };
        if !allowed || !error.is_passing() || self.failed >= options.attempts_max {
            return None;
        }
        let asked = match error {
            CallError::Failure(failure) => failure.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let wait = asked.saturating_add(options.backoff.wait(self.failed));
        let end = self.deadline.unwrap_or(self.give_up);
        (wait < end.saturating_duration_since(now)).then_some(wait)
    }
}

/// `start + wait`, or a day later where that cannot be represented.
pub(super) fn later(start: Instant, wait: Duration) -> Instant {
    start.checked_add(wait).unwrap_or(start + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Address, Failure};
    use crate::code::FailureCode;

    fn failure(code: FailureCode, retry_safe: bool, retry_after: Option<Duration>) -> CallError {
        CallError::Failure(Failure { code, message: String::new(), retry_after, retry_safe, load: 0 })
    }

    fn waits(retry: Retry, error: &CallError) -> bool {
        let (options, now) = (Options::named("test"), Instant::now());
        Attempts::begin(&Request::new("echo").retry(retry), &options, now)
            .wait_after(error, &options, now)
            .is_some()
    }

    #[test]
    fn only_what_was_certainly_not_started_is_tried_again_unless_pure() {
        let address: Address = "tcp://host:1".parse().unwrap();
        let busy = failure(FailureCode::OVERLOADED, true, None);
        let started = failure(FailureCode::OVERLOADED, false, None);
        let lost = CallError::ConnectionLost { address: address.clone(), reason: String::new() };
        let unreachable = CallError::Unreachable { address, reason: String::new() };
        for (error, safe, pure) in
            [(&busy, true, true), (&started, false, true), (&lost, false, true), (&unreachable, true, true)]
        {
            assert!(!waits(Retry::Never, error));
            assert_eq!(waits(Retry::Safe, error), safe, "{error}");
            assert_eq!(waits(Retry::Pure, error), pure, "{error}");
        }
    }

    #[test]
    fn a_failure_that_would_come_again_is_final() {
        for code in [FailureCode::INVALID_PARAMETER, FailureCode::DEADLINE_EXCEEDED, FailureCode::INTERNAL] {
            assert!(!waits(Retry::Pure, &failure(code, true, None)), "{code}");
        }
    }

    #[test]
    fn attempts_are_bounded() {
        let (options, now) = (Options::named("test"), Instant::now());
        let busy = failure(FailureCode::OVERLOADED, true, None);
        let mut attempts = Attempts::begin(&Request::new("echo"), &options, now);
        let made = std::iter::from_fn(|| attempts.wait_after(&busy, &options, now)).count();
        assert_eq!(made + 1, options.attempts_max as usize);
    }

    /// W-74
    #[test]
    fn retry_after_is_honoured_and_never_waits_past_the_deadline() {
        let (options, now) = (Options::named("test"), Instant::now());
        let busy = failure(FailureCode::OVERLOADED, true, Some(Duration::from_secs(3)));
        let wait = |deadline| {
            Attempts::begin(&Request::new("echo").deadline(deadline), &options, now)
                .wait_after(&busy, &options, now)
        };
        assert!(wait(Duration::from_secs(10)).unwrap() >= Duration::from_secs(3));
        assert_eq!(wait(Duration::from_secs(2)), None);
    }
}
