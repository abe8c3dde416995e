//! What a load generator counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use windlass_protocol::client::{FailureCode, Outcome};

/// Longest time that is told apart, nanoseconds; longer ones count as this one.
const NANOSECONDS_MAX: u64 = 3600 * 1_000_000_000;

pub(crate) struct Tally {
    pub(crate) replies: u64,
    /// Replies that arrived while requests were still being sent; they make the throughput.
    pub(crate) replies_in_time: u64,
    pub(crate) bytes_out: u64,
    pub(crate) failures: BTreeMap<FailureCode, u64>,
    /// Requests that were sent and never answered.
    pub(crate) unanswered: u64,
    /// Requests that were due and never sent, because all places were taken.
    pub(crate) unsent: u64,
    /// Connections that ended early, and the first reason.
    pub(crate) broken: u64,
    pub(crate) broken_reason: Option<String>,
    /// Of replies alone, nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// Of replies alone, as the daemon measured it, nanoseconds.
    pub(crate) queue: Histogram<u64>,
    pub(crate) service: Histogram<u64>,
    /// Of failures alone, nanoseconds.
    pub(crate) refusal: Histogram<u64>,
    pub(crate) elapsed: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, NANOSECONDS_MAX, 3).expect("the bounds are constants that fit");
        Self {
            replies: 0,
            replies_in_time: 0,
            bytes_out: 0,
            failures: BTreeMap::new(),
            unanswered: 0,
            unsent: 0,
            broken: 0,
            broken_reason: None,
            latency: histogram(),
            queue: histogram(),
            service: histogram(),
            refusal: histogram(),
            elapsed: Duration::ZERO,
        }
    }

    /// Counts an answer that was read at `now` to a request that began, or was due, at `began`.
    pub(crate) fn count(&mut self, outcome: &Outcome, began: Instant, now: Instant, end: Instant) {
        let latency = nanoseconds(now.saturating_duration_since(began));
        match outcome {
            Outcome::Reply { queue_time, service_time, body_bytes } => {
                self.replies += 1;
                self.replies_in_time += u64::from(now <= end);
                self.bytes_out += body_bytes;
                self.latency.saturating_record(latency);
                self.queue.saturating_record(nanoseconds(*queue_time));
                self.service.saturating_record(nanoseconds(*service_time));
            }
            Outcome::Failure(failure) => {
                *self.failures.entry(failure.code).or_default() += 1;
                self.refusal.saturating_record(latency);
            }
        }
    }

    pub(crate) fn lose(&mut self, reason: &str, unanswered: u64) {
        self.broken += 1;
        self.unanswered += unanswered;
        self.broken_reason.get_or_insert_with(|| reason.to_owned());
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.replies += other.replies;
        self.replies_in_time += other.replies_in_time;
        self.bytes_out += other.bytes_out;
        for (code, count) in &other.failures {
            *self.failures.entry(*code).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.unsent += other.unsent;
        self.broken += other.broken;
        self.broken_reason = self.broken_reason.take().or_else(|| other.broken_reason.clone());
        for (mine, others) in [
            (&mut self.latency, &other.latency),
            (&mut self.queue, &other.queue),
            (&mut self.service, &other.service),
            (&mut self.refusal, &other.refusal),
        ] {
            mine.add(others).expect("all histograms have the same bounds");
        }
        self.elapsed = self.elapsed.max(other.elapsed);
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
