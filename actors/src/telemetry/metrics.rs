//! The counters. Passed to whoever counts; nothing here is global.
//!
//! A worker's counters have one writer, so that counting costs no more than a store. All are read without order
//! between them: a status is a sketch of the moment, its sums are exact once the daemon is quiet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use windlass_protocol::FailureCode;

use crate::dispatch::ClientKey;
use crate::operation::OperationIndex;

/// All counters of a daemon.
pub(crate) struct Metrics {
    pub(crate) started_at: Instant,
    /// Names of all operations that the program knows, by [`OperationIndex`].
    pub(crate) operations: Vec<&'static str>,
    pub(crate) workers: Vec<WorkerCounters>,
    /// Failures answered by the I/O world, by code: refusals, rejections, drains.
    refusals: [AtomicU64; FailureCode::ALL.len()],
    pub(crate) connections_accepted: AtomicU64,
    pub(crate) connections_refused: AtomicU64,
    pub(crate) accept_errors: AtomicU64,
    pub(crate) protocol_errors: AtomicU64,
    pub(crate) listener_restarts: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn new(workers: usize, operations: Vec<&'static str>, now: Instant) -> Self {
        Self {
            started_at: now,
            workers: (0..workers).map(|_| WorkerCounters::new(operations.len())).collect(),
            operations,
            refusals: Default::default(),
            connections_accepted: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
            protocol_errors: AtomicU64::new(0),
            listener_restarts: AtomicU64::new(0),
            reloads: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// A failure that the I/O world answered by itself.
    pub(crate) fn refused(&self, code: FailureCode) {
        if let Some(place) = FailureCode::ALL.iter().position(|known| *known == code) {
            add(&self.refusals[place], 1);
        }
    }

    /// Failures that the I/O world answered, by code.
    pub(crate) fn refusals(&self) -> impl Iterator<Item = (FailureCode, u64)> {
        FailureCode::ALL.into_iter().zip(self.refusals.iter().map(|count| count.load(Ordering::Relaxed)))
    }
}

/// What one worker did and does. Written by that worker alone.
pub(crate) struct WorkerCounters {
    operations: Vec<OperationCounters>,
    /// Place of the running operation plus one; 0 is idle.
    running: AtomicU64,
    /// When it was started, nanoseconds since [`Metrics::started_at`].
    running_since: AtomicU64,
    /// Number of the connection that it runs for.
    running_for: AtomicU64,
    pub(crate) busy_nanos: AtomicU64,
}

/// How the jobs of one operation ended on one worker.
#[derive(Default)]
pub(crate) struct OperationCounters {
    pub(crate) done: AtomicU64,
    /// Failures other than the ones below.
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    /// Taken, but not started: cancelled, expired or too long in the queue.
    pub(crate) dropped: AtomicU64,
    /// Started, then stopped by a cancel, a deadline or the end of a drain.
    pub(crate) stopped: AtomicU64,
    pub(crate) queue_nanos: AtomicU64,
    pub(crate) service_nanos: AtomicU64,
}

/// How a job ended on a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Done,
    Failed,
    Panicked,
    Dropped,
    Stopped,
}

/// What a worker is doing now.
pub(crate) struct Running {
    pub(crate) operation: OperationIndex,
    pub(crate) since: Duration,
    pub(crate) client: u64,
}

/// A counter with one writer needs no locked instruction.
fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl WorkerCounters {
    fn new(n_operations: usize) -> Self {
        Self {
            operations: (0..n_operations).map(|_| OperationCounters::default()).collect(),
            running: AtomicU64::new(0),
            running_since: AtomicU64::new(0),
            running_for: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
        }
    }

    pub(crate) fn started(&self, operation: OperationIndex, since: Duration, client: ClientKey) {
        self.running_since.store(nanos(since), Ordering::Relaxed);
        let client = if let ClientKey::Connection(number) = client { number } else { 0 };
        self.running_for.store(client, Ordering::Relaxed);
        self.running.store(u64::from(operation.0) + 1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, operation: OperationIndex, end: End, queued: Duration, served: Duration) {
        let counters = &self.operations[usize::from(operation.0)];
        let counter = match end {
            End::Done => &counters.done,
            End::Failed => &counters.failed,
            End::Panicked => &counters.panicked,
            End::Dropped => &counters.dropped,
            End::Stopped => &counters.stopped,
        };
        bump(counter, 1);
        bump(&counters.queue_nanos, nanos(queued));
        bump(&counters.service_nanos, nanos(served));
        bump(&self.busy_nanos, nanos(served));
        self.running.store(0, Ordering::Relaxed);
    }

    /// Counters by [`OperationIndex`].
    pub(crate) fn operations(&self) -> &[OperationCounters] {
        &self.operations
    }

    pub(crate) fn running(&self) -> Option<Running> {
        let operation = self.running.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Running {
            operation: OperationIndex(u16::try_from(operation).ok()?),
            since: Duration::from_nanos(self.running_since.load(Ordering::Relaxed)),
            client: self.running_for.load(Ordering::Relaxed),
        })
    }
}
