//! The counters. Passed to whoever counts; nothing here is global.
//!
//! A worker's counters have one writer, so that counting costs no more than a store. All are read without order
//! between them: a status is a sketch of the moment, its sums are exact once the daemon is quiet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use windlass_protocol::FailureCode;

use super::crew::Crews;
use super::outcome::Outcome;
use crate::dispatch::Failure;
use crate::operation::OperationIndex;

/// All counters of a daemon.
pub(crate) struct Metrics {
    pub(crate) started_at: Instant,
    /// Names of all operations that the program knows, by [`OperationIndex`].
    pub(crate) operations: Vec<&'static str>,
    /// What the workers count: those of the pool in force and of older ones.
    pub(crate) crews: Crews,
    /// Jobs that nobody waited for any more, and no worker came to, by operation.
    swept: Vec<AtomicU64>,
    /// Requests that were read, by what they asked for.
    requests: Vec<RequestCounters>,
    /// Failures of requests whose operation was not started, by code.
    refusals: [AtomicU64; FailureCode::ALL.len()],
    pub(crate) accept_errors: AtomicU64,
    pub(crate) protocol_errors: AtomicU64,
    pub(crate) listener_restarts: AtomicU64,
    pub(crate) reloads: AtomicU64,
    /// Jobs that were reported for running far beyond their estimate.
    pub(crate) overruns: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    /// When the present phase was entered, nanoseconds since `started_at`.
    pub(crate) phase_entered: AtomicU64,
    /// What was last said of the oldest request that waits, nanoseconds.
    pub(crate) oldest_waiting_said: AtomicU64,
}

/// What a request asked for: an operation, or one that there is none of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked(Option<OperationIndex>);

impl Asked {
    /// An operation that is not enabled, or has never been one. Strangers' words become no labels.
    pub(crate) const UNKNOWN: Self = Self(None);
}

impl From<OperationIndex> for Asked {
    fn from(index: OperationIndex) -> Self {
        Self(Some(index))
    }
}

/// What became of the requests for one operation.
#[derive(Default)]
struct RequestCounters {
    read: AtomicU64,
    ended: [AtomicU64; Outcome::ALL.len()],
}

/// The label of requests for operations that there are none of.
pub(crate) const UNKNOWN_OPERATION: &str = "unknown";

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Metrics {
    /// A job of this operation was dropped although no worker came to it.
    pub(crate) fn swept(&self, operation: OperationIndex) {
        add(&self.swept[usize::from(operation.0)], 1);
    }

    /// How many there were, by the index of an operation.
    pub(super) fn n_swept(&self, index: usize) -> u64 {
        self.swept[index].load(Ordering::Relaxed)
    }

    pub(crate) fn new(operations: Vec<&'static str>, now: Instant) -> Self {
        Self {
            started_at: now,
            crews: Crews::new(operations.len()),
            swept: operations.iter().map(|_| AtomicU64::new(0)).collect(),
            // The last is for the unknown.
            requests: (0..=operations.len()).map(|_| RequestCounters::default()).collect(),
            operations,
            refusals: Default::default(),
            accept_errors: AtomicU64::new(0),
            protocol_errors: AtomicU64::new(0),
            listener_restarts: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            overruns: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            phase_entered: AtomicU64::new(0),
            oldest_waiting_said: AtomicU64::new(0),
        }
    }

    /// `n` requests were read. Exactly one of [`Metrics::replied`], [`Metrics::failed`] and [`Metrics::unanswered`]
    /// follows for each, by the one who took the right to answer.
    pub(crate) fn requests_read(&self, asked: Asked, n: u64) {
        add(&self.of(asked).read, n);
    }

    /// `n` requests were answered with a result.
    pub(crate) fn replied(&self, asked: Asked, n: u64) {
        add(&self.of(asked).ended[Outcome::Done.place()], n);
    }

    /// A request was answered with a failure.
    pub(crate) fn failed(&self, asked: Asked, failure: &Failure) {
        add(&self.of(asked).ended[Outcome::of(failure.code).place()], 1);
        if failure.retry_safe
            && let Some(place) = FailureCode::ALL.iter().position(|known| *known == failure.code)
        {
            add(&self.refusals[place], 1);
        }
    }

    /// A request lost its connection before it had an answer.
    pub(crate) fn unanswered(&self, asked: Asked) {
        add(&self.of(asked).ended[Outcome::Unanswered.place()], 1);
    }

    fn of(&self, asked: Asked) -> &RequestCounters {
        let place = asked.0.map_or(self.operations.len(), |index| usize::from(index.0));
        &self.requests[place]
    }

    /// Failures of requests whose operation was not started, by code.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (FailureCode, u64)> {
        FailureCode::ALL.into_iter().zip(self.refusals.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// How the requests ended: operation, how many ended in each outcome, how many have no answer yet.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, [u64; Outcome::ALL.len()], u64)> {
        let names = self.operations.iter().copied().chain([UNKNOWN_OPERATION]);
        names.zip(&self.requests).map(|(name, counters)| {
            // Ends before reads, so that the difference is never below zero.
            let ended = counters.ended.each_ref().map(|count| count.load(Ordering::Acquire));
            let read = counters.read.load(Ordering::Acquire);
            (name, ended, read.saturating_sub(ended.iter().sum()))
        })
    }
}
