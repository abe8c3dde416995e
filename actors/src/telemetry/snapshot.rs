//! One look at everything that is counted. Status and metrics are made from it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use windlass_protocol::FailureCode;

use super::accuracy::AccuracySnapshot;
use super::crew::{Crew, Roster};
use super::histogram::{Histogram, HistogramSnapshot, nanos};
use super::metrics::Metrics;
use super::outcome::Outcome;
use super::worker::OperationCounters;
use crate::cpu::thread_name;
use crate::dispatch::Class;
use crate::io::{DoorName, IoWorld};
use crate::lifecycle::Phase;
use crate::settings::Settings;

/// All numbers of one moment. Counters count from the start of the daemon.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the daemon calls itself.
    pub server: String,
    /// Since the start.
    pub uptime: Duration,
    /// Where the daemon is between start and end.
    pub phase: Phase,
    /// Since the phase was entered.
    pub phase_for: Duration,
    /// Until the phase ends at the latest; `None` while serving.
    pub phase_left: Option<Duration>,
    /// 0 is idle, 50 all workers busy and nothing waiting, 100 a wait of `queue.max_wait` or a full queue; 75 at least
    /// while requests are refused for how long they would wait.
    pub load: u8,
    /// Requests by operation; the last are those for operations that there are none of.
    pub requests: Vec<RequestsSnapshot>,
    /// Failures of requests whose operation was not started, by code.
    pub refusals: Vec<(FailureCode, u64)>,
    /// Jobs by operation, as the workers saw them.
    pub jobs: Vec<JobsSnapshot>,
    /// Every worker of the pool in force, by index.
    pub workers: Vec<WorkerSnapshot>,
    /// Workers of older pools that still run something.
    pub leaving: Vec<WorkerSnapshot>,
    /// What waits, and what it holds.
    pub queue: QueueSnapshot,
    /// Working memory that running jobs have reserved, bytes.
    pub work_bytes: u64,
    /// The most of it, bytes.
    pub work_bytes_max: u64,
    /// Connections by door.
    pub doors: Vec<DoorSnapshot>,
    /// Connections open at the same time, at the most.
    pub connections_max: usize,
    /// Connections that the system did not give.
    pub accept_errors: u64,
    /// Connections that ended because the peer broke the protocol.
    pub protocol_errors: u64,
    /// Listeners that ended by themselves.
    pub listener_restarts: u64,
    /// Reloads that were taken.
    pub reloads: u64,
    /// Jobs that were reported for running far beyond their estimate.
    pub overruns: u64,
    /// Bodies of requests that were read, bytes.
    pub bytes_in: u64,
    /// Bodies of answers, bytes.
    pub bytes_out: u64,
}

/// How the requests for one operation ended. Every request that was read is in exactly one of these numbers.
#[derive(Clone, Debug)]
pub struct RequestsSnapshot {
    /// Its name, or `unknown`.
    pub operation: &'static str,
    /// All outcomes with their numbers: `done`, a failure's code in small letters, or `unanswered`.
    pub ended: Vec<(&'static str, u64)>,
    /// Read and not answered yet.
    pub in_flight: u64,
}

/// What the workers made of one operation's jobs.
#[derive(Clone, Debug)]
pub struct JobsSnapshot {
    /// Its name.
    pub operation: &'static str,
    /// Ended with a result.
    pub done: u64,
    /// Ended with a failure other than the ones below.
    pub failed: u64,
    /// Ended by a panic, which was caught.
    pub panicked: u64,
    /// Not started: cancelled, expired or too long in the queue.
    pub dropped: u64,
    /// Started, then stopped by a cancel, a deadline or the end of a drain.
    pub stopped: u64,
    /// Of those that are done, answered with what another job came to that was the same.
    pub shared: u64,
    /// From the bridge to a worker.
    pub queue: HistogramSnapshot,
    /// On a worker.
    pub service: HistogramSnapshot,
    /// How they were estimated.
    pub accuracy: AccuracySnapshot,
}

/// What one worker did and does.
#[derive(Clone, Debug)]
pub struct WorkerSnapshot {
    /// Its place in its pool.
    pub index: usize,
    /// The name of its thread.
    pub name: String,
    /// Time spent on jobs, the running one included.
    pub busy: Duration,
    /// What it does now.
    pub running: Option<RunningSnapshot>,
    /// Jobs that it took, by operation; without those of which it took none.
    pub jobs: Vec<(&'static str, u64)>,
}

/// A job on a worker.
#[derive(Clone, Debug)]
pub struct RunningSnapshot {
    /// Its operation.
    pub operation: &'static str,
    /// Since its start.
    pub time: Duration,
    /// The number of the connection that it runs for; 0 where fairness is not by connection.
    pub client: u64,
    /// Whom it runs for: `connection 7`, an IP address or `uid 1000`, by `queue.fair_by`.
    pub client_name: String,
}

/// What waits for a worker.
#[derive(Clone, Debug)]
pub struct QueueSnapshot {
    /// Requests that no worker has taken yet.
    pub waiting: usize,
    /// Requests that wait or run.
    pub admitted: usize,
    /// Requests that may wait.
    pub capacity: usize,
    /// Inputs and outputs held, bytes.
    pub held_bytes: u64,
    /// The most of it, bytes.
    pub held_bytes_max: u64,
    /// Estimated CPU time of what waits: interactive, then batch.
    pub cpu: [Duration; 2],
    /// Clients with work that waits: interactive, then batch.
    pub clients: [usize; 2],
    /// How long the workers need for all that waits and runs, as estimated.
    pub drains_in: Duration,
    /// How long the oldest of them has waited; zero when none waits.
    pub oldest_waiting: Duration,
    /// How long the oldest job has run; zero when none runs.
    pub oldest_running: Duration,
}

/// What happened at one door.
#[derive(Clone, Debug)]
pub struct DoorSnapshot {
    /// `tcp`, `unix` or `http`.
    pub door: &'static str,
    /// Connections open now.
    pub open: usize,
    /// Connections that were given a place.
    pub accepted: u64,
    /// Connections for which there was no place.
    pub refused: u64,
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl Snapshot {
    /// Looks.
    pub(crate) fn take(world: &IoWorld) -> Self {
        let now = Instant::now();
        let settings = world.settings.load();
        let metrics = &world.metrics;
        let uptime = now.saturating_duration_since(metrics.started_at);
        let phase: Phase = *world.phase.borrow();
        let phase_for = uptime.saturating_sub(Duration::from_nanos(read(&metrics.phase_entered)));
        let roster = metrics.crews.roster();
        let workers = workers(&roster.current, metrics, uptime);
        let mut leaving: Vec<WorkerSnapshot> =
            roster.leaving.iter().flat_map(|crew| self::workers(crew, metrics, uptime)).collect();
        leaving.retain(|worker| worker.running.is_some());
        let budget = &world.workers.bridge.budget;
        Self {
            server: world.server.clone(),
            uptime,
            phase,
            phase_for,
            phase_left: phase.longest(&settings.drain).map(|longest| longest.saturating_sub(phase_for)),
            load: world.load(),
            requests: requests(metrics),
            refusals: metrics.refusals().collect(),
            jobs: jobs(&roster, metrics),
            queue: queue(world, &settings, workers.iter().chain(&leaving), now),
            workers,
            leaving,
            work_bytes: budget.work_bytes(),
            work_bytes_max: budget.work_bytes_max(),
            doors: doors(world),
            connections_max: settings.limits.connections_max,
            accept_errors: read(&metrics.accept_errors),
            protocol_errors: read(&metrics.protocol_errors),
            listener_restarts: read(&metrics.listener_restarts),
            reloads: read(&metrics.reloads),
            overruns: read(&metrics.overruns),
            bytes_in: read(&metrics.bytes_in),
            bytes_out: read(&metrics.bytes_out),
        }
    }

    /// A failure's code as a label: its name in small letters, the same as among the outcomes.
    pub fn label(code: FailureCode) -> &'static str {
        Outcome::ALL[Outcome::of(code).place()]
    }

    /// Requests that were read and are not answered yet.
    pub fn in_flight(&self) -> u64 {
        self.requests.iter().map(|requests| requests.in_flight).sum()
    }

    /// Panics of operations, which were caught and answered.
    pub fn panics(&self) -> u64 {
        self.jobs.iter().map(|jobs| jobs.panicked).sum()
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.doors.iter().map(|door| door.open).sum()
    }
}

fn requests(metrics: &Metrics) -> Vec<RequestsSnapshot> {
    let of_one = |(operation, ended, in_flight): (_, [u64; Outcome::ALL.len()], _)| RequestsSnapshot {
        operation,
        ended: Outcome::ALL.into_iter().zip(ended).collect(),
        in_flight,
    };
    metrics.requests().map(of_one).collect()
}

fn jobs(roster: &Roster, metrics: &Metrics) -> Vec<JobsSnapshot> {
    let of_one = |(index, operation): (usize, &&'static str)| {
        let counters = || roster.operation(index);
        let sum = |of: fn(&OperationCounters) -> &AtomicU64| counters().map(|one| read(of(one))).sum();
        let merged = |of: fn(&OperationCounters) -> &Histogram| HistogramSnapshot::of(counters().map(of));
        JobsSnapshot {
            operation,
            done: sum(|one| &one.done),
            failed: sum(|one| &one.failed),
            panicked: sum(|one| &one.panicked),
            dropped: sum(|one| &one.dropped) + metrics.n_swept(index),
            stopped: sum(|one| &one.stopped),
            shared: sum(|one| &one.shared),
            queue: merged(|one| &one.queue),
            service: merged(|one| &one.service),
            accuracy: AccuracySnapshot::of(counters().map(|one| &one.accuracy)),
        }
    };
    metrics.operations.iter().enumerate().map(of_one).collect()
}

fn workers(crew: &Crew, metrics: &Metrics, uptime: Duration) -> Vec<WorkerSnapshot> {
    let names = || metrics.operations.iter().copied();
    let of_one = |(index, worker): (usize, &super::worker::WorkerCounters)| WorkerSnapshot {
        index,
        name: thread_name(index),
        busy: worker.busy(uptime),
        running: worker.running().and_then(|running| {
            Some(RunningSnapshot {
                operation: metrics.operations.get(usize::from(running.operation.0))?,
                time: uptime.saturating_sub(running.since),
                client: running.client.connection().unwrap_or(0),
                client_name: running.client.to_string(),
            })
        }),
        jobs: names()
            .zip(worker.operations().iter().map(OperationCounters::taken))
            .filter(|(_, taken)| *taken > 0)
            .collect(),
    };
    crew.workers().iter().enumerate().map(of_one).collect()
}

/// In the order in which they are listed.
const CLASSES: [Class; 2] = [Class::Interactive, Class::Batch];

fn queue<'a>(
    world: &IoWorld,
    settings: &Settings,
    workers: impl Iterator<Item = &'a WorkerSnapshot>,
    now: Instant,
) -> QueueSnapshot {
    let bridge = &world.workers.bridge;
    let said = &world.metrics.oldest_waiting_said;
    // A worker that has the schedule will have put it back by the next look; until then the last one counts.
    let oldest_waiting = bridge.oldest_waiting(now).unwrap_or(Duration::from_nanos(read(said)));
    said.store(nanos(oldest_waiting), Ordering::Relaxed);
    QueueSnapshot {
        waiting: bridge.waiting_jobs(),
        admitted: bridge.admission.slots(),
        capacity: settings.queue.capacity.get(),
        held_bytes: bridge.admission.held_bytes(),
        held_bytes_max: settings.queue.memory_bytes_max,
        cpu: CLASSES.map(|class| bridge.backlog.waiting(class)),
        clients: CLASSES.map(|class| bridge.backlog.clients(class)),
        drains_in: world.workers.drain_in(),
        oldest_waiting,
        oldest_running: workers
            .filter_map(|worker| worker.running.as_ref())
            .map(|running| running.time)
            .max()
            .unwrap_or_default(),
    }
}

fn doors(world: &IoWorld) -> Vec<DoorSnapshot> {
    let of_one = |door: DoorName| {
        let counters = world.census.door(door);
        DoorSnapshot {
            door: door.name(),
            open: counters.open.load(Ordering::Relaxed),
            accepted: read(&counters.accepted),
            refused: read(&counters.refused),
        }
    };
    DoorName::ALL.into_iter().map(of_one).collect()
}
