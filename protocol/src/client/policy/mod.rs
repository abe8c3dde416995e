//! What may be tried again, when, and at which of several daemons. Knows no socket; time and chance are passed in.

mod budget;
mod endpoints;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::budget::Budget;
use self::endpoints::Endpoints;
use super::error::CallError;
use super::options::Options;
use super::request::Retry;
use crate::code::FailureCode;

/// What all calls of a client share.
pub(super) struct Policy {
    endpoints: Endpoints,
    budget: Budget,
    rng: Rng,
    options: Options,
}

/// What a call wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) retry: Retry,
    pub(super) deadline: Option<Duration>,
    pub(super) attempts_max: u32,
}

/// The attempts of one call.
pub(super) struct Attempts {
    wish: Wish,
    failed: u32,
    /// When the answer is no longer wanted; made once, when the call begins.
    deadline: Option<Instant>,
    /// When the client stops waiting whatever the daemon does.
    give_up: Instant,
    began: Instant,
    /// The daemons that were tried, and when this call may come back to each.
    tried: BTreeMap<usize, Instant>,
    next: Next,
}

/// Where the next attempt may go.
#[derive(PartialEq, Eq)]
enum Next {
    Anywhere,
    /// To an address that was not tried: nothing was sent, so this is no repetition.
    Elsewhere,
}

/// An attempt that failed.
pub(super) struct Failed {
    pub(super) stage: Stage,
    pub(super) error: CallError,
}

/// How far an attempt came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// There was no connection: what was asked was certainly not sent.
    Connecting,
    /// There was one.
    Asked,
}

/// What a repetition takes from the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Price {
    /// No daemon has worked on the request or was too busy for it, so that repeating it makes nothing worse; a
    /// restart must not cost the requests that meet it.
    Nothing,
    Token,
}

impl Policy {
    /// For `addresses` daemons, numbered from 0.
    pub(super) fn new(addresses: usize, options: &Options, rng: Rng) -> Self {
        Self {
            endpoints: Endpoints::new(addresses, options.backoff),
            budget: Budget::new(options.retry_budget),
            rng,
            options: options.clone(),
        }
    }

    pub(super) fn begin(&mut self, wish: Wish, began: Instant) -> Attempts {
        self.budget.deposit();
        let options = &self.options;
        let patience = wish
            .deadline
            .map_or(options.answer_timeout, |deadline| deadline.saturating_add(options.deadline_grace));
        Attempts {
            wish,
            failed: 0,
            deadline: wish.deadline.and_then(|deadline| began.checked_add(deadline)),
            give_up: later(began, patience),
            began,
            tried: BTreeMap::new(),
            next: Next::Anywhere,
        }
    }

    /// Chooses the daemon of the next attempt, which has then begun there; [`Policy::leave`] ends it.
    pub(super) fn enter(&mut self, attempts: &Attempts, now: Instant) -> usize {
        let index = self.choose(attempts, now);
        self.endpoints.enter(index);
        index
    }

    pub(super) fn leave(&mut self, index: usize) {
        self.endpoints.leave(index);
    }

    fn choose(&mut self, attempts: &Attempts, now: Instant) -> usize {
        if self.endpoints.count() == 1 {
            return 0;
        }
        let mut candidates = self.candidates(attempts);
        let soonest = candidates.iter().copied().min_by_key(|index| self.ready_at(attempts, *index));
        candidates.retain(|index| self.ready_at(attempts, *index).is_none_or(|ready| ready <= now));
        match soonest {
            Some(soonest) if candidates.is_empty() => soonest,
            _ => self.endpoints.better_of_two(&candidates, now, &mut self.rng),
        }
    }

    fn candidates(&self, attempts: &Attempts) -> Vec<usize> {
        let all = 0..self.endpoints.count();
        let untried = |index: &usize| !attempts.tried.contains_key(index);
        match attempts.next {
            Next::Elsewhere => all.filter(untried).collect(),
            Next::Anywhere => all.collect(),
        }
    }

    /// When a daemon may be asked: what this call was told there counts before what others were.
    fn ready_at(&self, attempts: &Attempts, index: usize) -> Option<Instant> {
        attempts.tried.get(&index).copied().or_else(|| self.endpoints.rests_until(index))
    }

    /// How long to try to connect at most. Half of the time is kept for another address where there is one.
    pub(super) fn connect_patience(&self, attempts: &Attempts, now: Instant) -> Duration {
        let left = attempts.end().saturating_duration_since(now);
        match self.endpoints.count() {
            1 => self.options.connect_timeout,
            _ => self.options.connect_timeout.min(left / 2),
        }
    }

    /// The call has its answer.
    pub(super) fn answered(&mut self, index: usize, load: Option<u8>, now: Instant) {
        self.endpoints.answered(index, load, now);
    }

    /// How long to wait before the next attempt, or `None` when the error is the call's result: it is final, it is
    /// not safe to repeat, or there are no attempts, no time or no budget left.
    pub(super) fn failed(
        &mut self,
        attempts: &mut Attempts,
        index: usize,
        failed: &Failed,
        now: Instant,
    ) -> Option<Duration> {
        self.remember(index, failed, now);
        let asked = match &failed.error {
            CallError::Failure(failure) => failure.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let jitter = self.options.backoff.wait(attempts.failed + 1, &mut self.rng);
        attempts.tried.insert(index, later(now, asked.saturating_add(jitter)));
        if failed.stage == Stage::Connecting && attempts.tried.len() < self.endpoints.count() {
            attempts.next = Next::Elsewhere;
            return (now < attempts.end()).then_some(Duration::ZERO);
        }
        attempts.next = Next::Anywhere;
        attempts.failed += 1;
        let price = price(attempts.wish.retry, failed)?;
        if attempts.failed >= attempts.wish.attempts_max {
            return None;
        }
        let ready = self.candidates(attempts).into_iter().map(|index| self.ready_at(attempts, index)).min();
        let wait = ready.flatten().map_or(Duration::ZERO, |ready| ready.saturating_duration_since(now));
        if wait >= attempts.end().saturating_duration_since(now) {
            return None;
        }
        (price == Price::Nothing || self.budget.withdraw()).then_some(wait)
    }

    /// What the failure says of the daemon, for all calls.
    fn remember(&mut self, index: usize, failed: &Failed, now: Instant) {
        match &failed.error {
            CallError::Failure(failure) if failure.code == FailureCode::OVERLOADED => {
                self.endpoints.refused(index, failure.load, failure.retry_after, now);
            }
            CallError::Failure(failure) if !is_leaving(failure.code) && failed.stage == Stage::Asked => {
                self.endpoints.answered(index, Some(failure.load), now);
            }
            CallError::TooLarge { .. } | CallError::Closed => {}
            CallError::Failure(_)
            | CallError::Unreachable { .. }
            | CallError::ConnectionLost { .. }
            | CallError::Protocol { .. }
            | CallError::DeadlineExceeded { .. } => self.endpoints.away(index, now),
        }
    }
}

impl Attempts {
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

    /// When no new attempt begins any more.
    fn end(&self) -> Instant {
        self.deadline.unwrap_or(self.give_up)
    }
}

/// Whether this failure may be followed by the same request again, and what that takes from the budget.
fn price(retry: Retry, failed: &Failed) -> Option<Price> {
    if retry == Retry::Never {
        return None;
    }
    match (&failed.error, failed.stage) {
        (CallError::Failure(failure), Stage::Connecting) if is_passing(failure.code) => Some(Price::Nothing),
        (CallError::Failure(failure), Stage::Asked) if is_passing(failure.code) && failure.retry_safe => {
            Some(if is_leaving(failure.code) { Price::Nothing } else { Price::Token })
        }
        (CallError::Unreachable { .. }, _) => Some(Price::Nothing),
        // The daemon was gone under the request, which may have run: twice does no harm to a pure one.
        (CallError::ConnectionLost { .. }, _) if retry == Retry::Pure => Some(Price::Token),
        (CallError::Failure(failure), Stage::Asked)
            if failure.code == FailureCode::CANCELLED && retry == Retry::Pure =>
        {
            Some(Price::Token)
        }
        _ => None,
    }
}

/// Whether the same request has a chance later or elsewhere. Nobody here asked for Cancelled, so the daemon left.
fn is_passing(code: FailureCode) -> bool {
    code.class() == crate::CodeClass::Capacity || code == FailureCode::CANCELLED
}

fn is_leaving(code: FailureCode) -> bool {
    matches!(code, FailureCode::DRAINING | FailureCode::CANCELLED)
}

/// `start + wait`, or a day later where that cannot be represented.
pub(super) fn later(start: Instant, wait: Duration) -> Instant {
    start.checked_add(wait).unwrap_or(start + Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests;
