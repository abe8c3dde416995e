//! What one worker did and does. Written by that worker alone, read by whoever looks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::accuracy::Accuracy;
use super::histogram::{Histogram, bump, nanos};
use crate::dispatch::{ClientKey, Cost};
use crate::operation::OperationIndex;

/// What one worker did and does. On cache lines of its own, so that no worker waits for another's store.
#[repr(align(128))]
pub(crate) struct WorkerCounters {
    operations: Vec<OperationCounters>,
    /// Place of the running operation plus one; 0 is idle.
    running: AtomicU64,
    /// When it was started, nanoseconds since the daemon was.
    running_since: AtomicU64,
    /// What it was estimated at, nanoseconds.
    running_estimate: AtomicU64,
    /// When the one was started that was last reported to run for too long, nanoseconds since the daemon was.
    reported: AtomicU64,
    /// Whom it runs for: see [`WorkerCounters::runs_for`].
    running_for: AtomicU64,
    /// The two halves of that, where it is an address of IPv6. Whoever looks while one job follows another may see
    /// halves of two.
    running_for_address: [AtomicU64; 2],
    /// Time of all jobs that have ended.
    busy_nanos: AtomicU64,
    /// The most that [`WorkerCounters::busy`] has said.
    busy_said: AtomicU64,
}

/// How the jobs of one operation ended on one worker.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct OperationCounters {
    pub(crate) done: AtomicU64,
    /// Failures other than the ones below.
    pub(crate) failed: AtomicU64,
    pub(crate) panicked: AtomicU64,
    /// Taken, but not started: cancelled, expired or too long in the queue.
    pub(crate) dropped: AtomicU64,
    /// Started, then stopped by a cancel, a deadline or the end of a drain.
    pub(crate) stopped: AtomicU64,
    /// Of those that are done, answered with what another job came to.
    pub(crate) shared: AtomicU64,
    /// From the bridge to this worker, of every job that it took.
    pub(crate) queue: Histogram,
    /// On this worker, of every job that it started.
    pub(crate) service: Histogram,
    /// How its estimates were.
    pub(crate) accuracy: Accuracy,
}

/// How a job ended on a worker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Done,
    Failed,
    Panicked,
    Dropped,
    Stopped,
    /// Done by another job that was the same.
    Shared,
}

/// A job that a worker is about to run.
pub(crate) struct Started {
    pub(crate) operation: OperationIndex,
    /// Since the daemon was started.
    pub(crate) since: Duration,
    pub(crate) estimate: Duration,
    pub(crate) client: ClientKey,
}

/// What a worker is doing now.
pub(crate) struct Running {
    pub(crate) operation: OperationIndex,
    pub(crate) since: Duration,
    pub(crate) estimate: Duration,
    pub(crate) client: ClientKey,
}

/// What the two highest bits of a word say of whom a worker runs for; the others are a number or an address.
const CONNECTION: u64 = 0;
const UID: u64 = 1;
const IPV4: u64 = 2;
const IPV6: u64 = 3;
const KIND_SHIFT: u32 = 62;

impl OperationCounters {
    /// All that the worker took, however it ended.
    pub(super) fn taken(&self) -> u64 {
        let ended = [&self.done, &self.failed, &self.panicked, &self.dropped, &self.stopped];
        ended.into_iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl WorkerCounters {
    pub(super) fn new(n_operations: usize) -> Self {
        Self {
            operations: (0..n_operations).map(|_| OperationCounters::default()).collect(),
            running: AtomicU64::new(0),
            running_since: AtomicU64::new(0),
            running_estimate: AtomicU64::new(0),
            reported: AtomicU64::new(u64::MAX),
            running_for: AtomicU64::new(0),
            running_for_address: Default::default(),
            busy_nanos: AtomicU64::new(0),
            busy_said: AtomicU64::new(0),
        }
    }

    pub(crate) fn started(&self, job: Started) {
        self.running_since.store(nanos(job.since), Ordering::Relaxed);
        self.running_estimate.store(nanos(job.estimate), Ordering::Relaxed);
        self.runs_for(job.client);
        self.running.store(u64::from(job.operation.0) + 1, Ordering::Release);
    }

    fn runs_for(&self, client: ClientKey) {
        let (kind, rest) = match client {
            ClientKey::Connection(number) => (CONNECTION, number),
            ClientKey::Uid(uid) => (UID, u64::from(uid)),
            ClientKey::Address(IpAddr::V4(address)) => (IPV4, u64::from(address.to_bits())),
            ClientKey::Address(IpAddr::V6(address)) => {
                let bits = address.to_bits();
                let halves = [bits >> u64::BITS, bits & u128::from(u64::MAX)];
                for (place, half) in self.running_for_address.iter().zip(halves) {
                    // Half of the bits fit.
                    place.store(u64::try_from(half).unwrap_or(0), Ordering::Relaxed);
                }
                (IPV6, 0)
            }
        };
        self.running_for.store(kind << KIND_SHIFT | rest, Ordering::Relaxed);
    }

    fn running_for(&self) -> ClientKey {
        let word = self.running_for.load(Ordering::Relaxed);
        let rest = word & !(IPV6 << KIND_SHIFT);
        // None is larger than what was stored.
        let small = u32::try_from(rest).unwrap_or(u32::MAX);
        match word >> KIND_SHIFT {
            UID => ClientKey::Uid(small),
            IPV4 => ClientKey::Address(Ipv4Addr::from_bits(small).into()),
            IPV6 => {
                let [high, low] =
                    self.running_for_address.each_ref().map(|half| u128::from(half.load(Ordering::Relaxed)));
                ClientKey::Address(Ipv6Addr::from_bits(high << u64::BITS | low).into())
            }
            _ => ClientKey::Connection(rest),
        }
    }

    pub(crate) fn ended(&self, operation: OperationIndex, end: End, queued: Duration, served: Duration) {
        let counters = &self.operations[usize::from(operation.0)];
        let counter = match end {
            End::Done | End::Shared => &counters.done,
            End::Failed => &counters.failed,
            End::Panicked => &counters.panicked,
            End::Dropped => &counters.dropped,
            End::Stopped => &counters.stopped,
        };
        bump(counter, 1);
        counters.queue.record(queued);
        if end == End::Shared {
            bump(&counters.shared, 1);
        }
        if matches!(end, End::Dropped | End::Shared) {
            return;
        }
        counters.service.record(served);
        // In this order: whoever sees the sum does not see the job running any more, and counts it once.
        self.running.store(0, Ordering::Relaxed);
        let busy = self.busy_nanos.load(Ordering::Relaxed).wrapping_add(nanos(served));
        self.busy_nanos.store(busy, Ordering::Release);
    }

    /// A job ended that was estimated so, and took so long.
    pub(crate) fn estimated(&self, operation: OperationIndex, cost: &Cost, took: Duration) {
        let counters = &self.operations[usize::from(operation.0)];
        counters.accuracy.record(cost.estimate.cpu, cost.cpu, took);
    }

    /// Notes that a running job is reported; whether it was not before.
    pub(crate) fn report(&self, running: &Running) -> bool {
        let since = nanos(running.since);
        self.reported.swap(since, Ordering::Relaxed) != since
    }

    /// Counters by [`OperationIndex`].
    pub(crate) fn operations(&self) -> &[OperationCounters] {
        &self.operations
    }

    pub(crate) fn running(&self) -> Option<Running> {
        let operation = self.running.load(Ordering::Acquire).checked_sub(1)?;
        Some(Running {
            operation: OperationIndex(u16::try_from(operation).ok()?),
            since: Duration::from_nanos(self.running_since.load(Ordering::Relaxed)),
            estimate: Duration::from_nanos(self.running_estimate.load(Ordering::Relaxed)),
            client: self.running_for(),
        })
    }

    /// Time spent on jobs until `now`, since the daemon was started, the running one included. Never says less than
    /// before, although a job that ends while this looks is missed once.
    pub(crate) fn busy(&self, now: Duration) -> Duration {
        let ended = self.busy_nanos.load(Ordering::Acquire);
        let running = self.running().map_or(Duration::ZERO, |running| now.saturating_sub(running.since));
        let busy = ended.saturating_add(nanos(running));
        Duration::from_nanos(self.busy_said.fetch_max(busy, Ordering::Relaxed).max(busy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: OperationIndex = OperationIndex(0);

    #[test]
    fn a_running_job_counts_as_busy_and_is_not_counted_twice() {
        let worker = WorkerCounters::new(1);
        let second = Duration::from_secs(1);
        let client = ClientKey::Connection(7);
        worker.started(Started { operation: ECHO, since: second, estimate: second, client });
        assert_eq!(worker.busy(3 * second), 2 * second);
        assert_eq!(worker.running().unwrap().client, client);
        worker.ended(ECHO, End::Done, second, 3 * second);
        assert_eq!(worker.busy(9 * second), 3 * second);
        assert!(worker.running().is_none());
    }

    #[test]
    fn it_is_known_whom_a_worker_runs_for() {
        let worker = WorkerCounters::new(1);
        let address = |text: &str| ClientKey::Address(text.parse().unwrap());
        let clients = [
            (ClientKey::Connection(7), "connection 7"),
            (ClientKey::Uid(u32::MAX), "uid 4294967295"),
            (address("203.0.113.255"), "203.0.113.255"),
            (address("2001:db8::ffff:0:7"), "2001:db8::ffff:0:7"),
        ];
        for (client, text) in clients {
            let since = Duration::ZERO;
            worker.started(Started { operation: ECHO, since, estimate: since, client });
            let running = worker.running().unwrap();
            assert_eq!((running.client, &*running.client.to_string()), (client, text));
        }
    }

    #[test]
    fn what_was_dropped_waited_and_was_not_served() {
        let worker = WorkerCounters::new(1);
        worker.ended(ECHO, End::Dropped, Duration::from_secs(1), Duration::ZERO);
        let counters = &worker.operations()[0];
        let count = |histogram| super::super::HistogramSnapshot::of([histogram].into_iter()).count();
        assert_eq!((count(&counters.queue), count(&counters.service)), (1, 0));
    }
}
