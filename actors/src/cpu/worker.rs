//! Owns: the work areas of one pool thread. Receives: batches. Sends: answers. Ends when: the pool does.
//! Never: awaits, blocks, sees a socket, or dies of a panic in an operation.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::coalesce::{Boarding, Kept};
use super::digest::{Digest, digest};
use super::workers::Workers;
use crate::awake::stay_awake;
use crate::dispatch::{Answer, Bag, Batch, Cost, Failure, Hands, Job, Prospect, StopFlag};
use crate::operation::{
    Entry, Input, JobContext, OperationError, OperationIndex, Output, OutputBudget, StopCheck, WorkAreas,
};
use crate::telemetry::{Crew, End, Started};

/// A batch that has run for this long answers what is done and goes back behind whoever is next.
const BATCH_TIME_MAX: Duration = Duration::from_micros(500);

/// How long a worker without work stays awake: about what a client that has its answer takes to ask again.
const STAND_BY: Duration = Duration::from_micros(50);

/// Jobs below this are many,
const LIGHT: Duration = Duration::from_micros(20);

/// and one of so many of them is compared with its estimate once their cost is known.
const LIGHT_TAUGHT: u32 = 8;

/// A job that had so many times its estimate until its deadline, and was not done then, has run away.
const RUNAWAY: u32 = 4;

/// What one pool thread keeps from job to job.
pub(crate) struct Worker {
    index: usize,
    areas: WorkAreas,
    kept_bytes_max: u64,
    crew: Arc<Crew>,
    n_ended: u32,
}

impl Worker {
    /// `crew` is whose counters it writes, at its index.
    pub(crate) fn new(index: usize, kept_bytes_max: u64, crew: Arc<Crew>) -> Self {
        Self { index, areas: WorkAreas::default(), kept_bytes_max, crew, n_ended: 0 }
    }

    /// Gives back what it kept from job to job.
    pub(crate) fn keep_nothing(&mut self) {
        self.areas = WorkAreas::default();
    }

    /// Begins an activation.
    pub(super) fn begin<'a>(&'a mut self, workers: &'a Workers) -> Shift<'a> {
        Shift { bag: Bag::new(&workers.post, Instant::now()), worker: self, workers }
    }

    fn run_apart(
        &mut self,
        workers: &Workers,
        mut batch: Batch,
        begun_at: Instant,
        bag: &mut Bag<'_>,
    ) -> Duration {
        let mut used = Duration::ZERO;
        let batch_until = begun_at + BATCH_TIME_MAX;
        let mut clock = Clock::new(workers, begun_at);
        while let Some(job) = batch.next() {
            let answer = self.run_job(workers, &batch, job, &mut clock);
            used += answer.service_time;
            batch.answer(answer);
            if batch.len() > 0 && clock.now > batch_until {
                batch.send_done();
                workers.bridge.put_back(batch);
                return used;
            }
        }
        if let Some(letter) = batch.seal() {
            bag.add(letter, clock.now);
        }
        used
    }

    /// Runs a job whose result is for all who ask the same, unless another worker does.
    fn run_shared(&mut self, workers: &Workers, digest: Digest, batch: Batch) {
        let mut batch = match workers.flights.board(digest, batch) {
            Boarding::Leads(batch) => batch,
            Boarding::Joined => return,
            Boarding::Arrived(batch, output) => {
                self.share(workers, batch, &output);
                return;
            }
        };
        let leading = Leading { workers, digest, has_arrived: Cell::new(false) };
        let Some(job) = batch.next() else { return };
        let mut clock = Clock::new(workers, Instant::now());
        let answer = self.run_job(workers, &batch, job, &mut clock);
        let output = answer.outcome.as_ref().ok().cloned();
        batch.answer(answer);
        if let Some(output) = output {
            for follower in leading.arrives(&batch, &output, clock.now) {
                self.share(workers, follower, &output);
            }
        }
    }

    /// Answers a job with what another one has come to.
    fn share(&self, workers: &Workers, mut batch: Batch, output: &Output) {
        let now = Instant::now();
        let Some(job) = batch.next() else { return };
        let counters = &self.crew.workers()[self.index];
        let index = batch.settings.catalogue.entries()[job.entry].index;
        let queue_time = now.saturating_duration_since(job.queued_at);
        let may_start = job.stop.start();
        let Job { id, input, deadline, mut held, .. } = job;
        let output_bytes = output.0.len() as u64;
        let room_in = || workers.bridge.admission.room_in(output_bytes, now);
        let outcome = if !may_start {
            Err(Failure::abandoned())
        } else if now >= deadline {
            Err(Failure::expired(queue_time))
        } else {
            OutputBudget::new(&mut held, input.len() as u64, batch.output_bytes_max)
                .reserve(output_bytes)
                .map(|()| output.clone())
                .map_err(|error| Failure { retry_safe: true, ..error.into() })
                .map_err(|failure| failure.retry_after_if_overloaded(room_in))
        };
        let end = if outcome.is_ok() { End::Shared } else { End::Dropped };
        counters.ended(index, end, queue_time, Duration::ZERO);
        batch.answer(Answer { id, outcome, queue_time, service_time: Duration::ZERO, held });
    }

    fn run_job(&mut self, workers: &Workers, batch: &Batch, job: Job, clock: &mut Clock) -> Answer {
        let counters = &self.crew.workers()[self.index];
        let entry = &batch.settings.catalogue.entries()[job.entry];
        let taken_at = clock.now;
        let queue_time = taken_at.saturating_duration_since(job.queued_at);
        if let Some(failure) = unstarted(workers, batch, &job, Taken { at: taken_at, waited: queue_time }) {
            counters.ended(entry.index, End::Dropped, queue_time, Duration::ZERO);
            let answer = Answer::failed(job.id, failure, job.held);
            return Answer { queue_time, ..answer };
        }

        if let Some(failure) = contained(workers, entry, &job, taken_at) {
            counters.ended(entry.index, End::Dropped, queue_time, Duration::ZERO);
            let answer = Answer::failed(job.id, failure, job.held);
            // To know the input again took its time, for which its client has to stand.
            return Answer { queue_time, service_time: clock.advance(), ..answer };
        }
        counters.started(Started {
            operation: entry.index,
            since: clock.since_start,
            estimate: job.cost.cpu,
            client: batch.client().key,
        });
        let Job { id, arguments, mut input, deadline, cost, mut held, ref stop, .. } = job;
        let input_bytes = input.len() as u64;
        let result = {
            let mut context = JobContext {
                stop: StopCheck::new(stop, workers.bridge.everything_stopped(), deadline),
                areas: &mut self.areas,
                output: OutputBudget::new(&mut held, input_bytes, batch.output_bytes_max),
            };
            catch_unwind(AssertUnwindSafe(|| entry.operation.run(&arguments, &mut input, &mut context)))
        };
        let service_time = clock.advance();

        let (end, outcome) = match result {
            Ok(Ok(output)) if output.0.len() as u64 > batch.output_bytes_max => {
                let message = format!(
                    "the output of {} bytes is larger than the {} that this connection can be answered",
                    output.0.len(),
                    batch.output_bytes_max
                );
                (End::Failed, Err(OperationError::TooLarge(message).into()))
            }
            Ok(Ok(output)) => (End::Done, Ok(output)),
            Ok(Err(OperationError::Stopped(_))) if stopped_by_drain(workers, stop) => {
                (End::Stopped, Err(Failure::drain_over()))
            }
            Ok(Err(error @ OperationError::Stopped(_))) => (End::Stopped, Err(error.into())),
            Ok(Err(error @ OperationError::Overloaded(_))) => {
                let room_in = workers.bridge.admission.room_in(cost.estimate.output_bytes, clock.now);
                (End::Failed, Err(Failure::from(error).retry_after(room_in)))
            }
            Ok(Err(error)) => (End::Failed, Err(error.into())),
            Err(panic) => {
                tracing::error!(
                    operation = entry.name(),
                    worker = self.index,
                    panic = panic_message(panic.as_ref()),
                    "an operation panicked; its request is answered Internal"
                );
                // A panic may have left them half changed.
                self.areas = WorkAreas::default();
                (End::Panicked, Err(Failure::panicked(entry.name())))
            }
        };
        counters.ended(entry.index, end, queue_time, service_time);
        // It had time enough for far more than anybody thought that it would take.
        let enough = cost.cpu.max(cost.estimate.cpu).saturating_mul(RUNAWAY);
        let ran_away = clock.now > deadline && deadline.saturating_duration_since(taken_at) > enough;
        if ran_away || end == End::Panicked {
            if matches!(input, Input::Shared(_)) && input_bytes == input.len() as u64 {
                workers.containment.offended(entry.index, digest(entry.index, &arguments, &input), clock.now);
            }
        } else if end == End::Done || (end == End::Stopped && service_time > cost.cpu) {
            self.learn(workers, entry.index, &cost, service_time);
        }
        Answer { id, outcome, queue_time, service_time, held }
    }
}

impl Worker {
    /// Corrects what such jobs are estimated at. Light jobs are so many that a few of them teach as much.
    fn learn(&mut self, workers: &Workers, operation: OperationIndex, cost: &Cost, took: Duration) {
        self.n_ended = self.n_ended.wrapping_add(1);
        let is_light = cost.cpu < LIGHT && took < LIGHT;
        let costs = &workers.bridge.costs;
        if is_light
            && !self.n_ended.is_multiple_of(LIGHT_TAUGHT)
            && costs.is_settled(operation, cost.estimate.cpu)
        {
            return;
        }
        self.crew.workers()[self.index].estimated(operation, cost, took);
        costs.learn(operation, cost.estimate.cpu, took);
    }
}

/// An activation of a worker.
pub(super) struct Shift<'a> {
    worker: &'a mut Worker,
    workers: &'a Workers,
    bag: Bag<'a>,
}

impl Hands for Shift<'_> {
    /// Runs the jobs of a batch one after the other and answers them together, or in parts if that takes long.
    fn run(&mut self, batch: Batch) -> Duration {
        let Self { worker, workers, bag } = self;
        if !batch.is_light() {
            // Nobody's answer waits for somebody else's work.
            bag.post();
        }
        let begun_at = Instant::now();
        let used = match shared_digest(&batch, begun_at) {
            Some(digest) => {
                worker.run_shared(workers, digest, batch);
                begun_at.elapsed()
            }
            None => worker.run_apart(workers, batch, begun_at, bag),
        };
        if worker.areas.bytes() > worker.kept_bytes_max {
            worker.areas.shrink_to(worker.kept_bytes_max);
        }
        used
    }

    fn rest(&mut self) {
        self.bag.post();
    }

    fn stand_by(&mut self, is_called: impl Fn() -> bool) {
        stay_awake(Instant::now() + STAND_BY, is_called);
    }
}

/// What is the same for all whose result may be shared with a batch's only job.
fn shared_digest(batch: &Batch, now: Instant) -> Option<Digest> {
    let (job, entry) = batch.first()?;
    (entry.coalesces() && !batch.is_lost(now)).then(|| digest(entry.index, &job.arguments, &job.input))
}

/// The run of a job whose result others wait for. Dropped without one, by an end of any kind, they go back into the
/// queue, and one of them leads.
struct Leading<'a> {
    workers: &'a Workers,
    digest: Digest,
    has_arrived: Cell<bool>,
}

impl Leading<'_> {
    /// Those who have waited beside it. While others may ask the same who were in flight with it, the
    /// result is kept for them.
    fn arrives(&self, batch: &Batch, output: &Output, ended_at: Instant) -> Vec<Batch> {
        let bridge = &self.workers.bridge;
        // Those who are queued, or were just taken by another worker, come by in a moment.
        let kept = (bridge.waiting_jobs() > 0 || bridge.places.awake() > 1).then(|| {
            // Only while there is plenty of room.
            let queue = &batch.settings.queue;
            let held = bridge.admission.hold(output.0.len() as u64, queue.memory_bytes_max / 8).ok()?;
            Some(Kept { output: output.clone(), held, wait_max: queue.wait_max })
        });
        self.has_arrived.set(true);
        self.workers.flights.land(&self.digest, kept.flatten(), ended_at)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        if self.has_arrived.get() {
            return;
        }
        let now = Instant::now();
        // Each is put back in front of the others.
        for mut follower in self.workers.flights.land(&self.digest, None, now).into_iter().rev() {
            follower.unboard(now);
            self.workers.bridge.put_back(follower);
            // This worker takes only one of them.
            self.workers.bridge.budget.note_passed_over();
        }
    }
}

/// Why an input that has done harm before is not tried again, if so.
fn contained(workers: &Workers, entry: &Entry, job: &Job, now: Instant) -> Option<Failure> {
    if !workers.containment.watches(entry.index) || !matches!(job.input, Input::Shared(_)) {
        return None;
    }
    let digest = digest(entry.index, &job.arguments, &job.input);
    let left = workers.containment.refuses(entry.index, &digest, now)?;
    Some(Failure::contained(entry.name(), left))
}

/// The time, read once where one job ends and the next begins.
struct Clock {
    now: Instant,
    /// The same, counted from the start of the daemon.
    since_start: Duration,
}

impl Clock {
    fn new(workers: &Workers, now: Instant) -> Self {
        Self { now, since_start: now - workers.metrics.started_at }
    }

    /// Reads it; says how much has passed since the last time.
    fn advance(&mut self) -> Duration {
        let now = Instant::now();
        let passed = now - self.now;
        *self = Self { now, since_start: self.since_start + passed };
        passed
    }
}

/// When a worker took a job.
#[derive(Clone, Copy)]
struct Taken {
    at: Instant,
    /// From the bridge until then.
    waited: Duration,
}

/// Why a job is not even started, if so.
fn unstarted(workers: &Workers, batch: &Batch, job: &Job, taken: Taken) -> Option<Failure> {
    let Taken { at, waited } = taken;
    if !job.stop.start() {
        Some(Failure::abandoned())
    } else if workers.bridge.everything_stopped().load(Ordering::Relaxed) {
        Some(Failure { retry_safe: true, ..Failure::drain_over() })
    } else if at >= job.deadline {
        Some(Failure::expired(waited))
    } else if waited > batch.settings.queue.wait_max {
        Some(Failure::waited_too_long(waited).retry_after(back_in(workers, batch, job, at)))
    } else if job.is_hopeless(at) {
        Some(Failure::hopeless(waited).retry_after(back_in(workers, batch, job, at)))
    } else {
        None
    }
}

/// After what time a job would be admitted again that is given up now.
fn back_in(workers: &Workers, batch: &Batch, job: &Job, now: Instant) -> Duration {
    let entry = &batch.settings.catalogue.entries()[job.entry];
    let prospect = Prospect {
        client: batch.client(),
        class: batch.class,
        cpu: job.cost.cpu,
        cpu_least: job.cost.cpu_least(),
        restricted: workers.bridge.restricted(entry, job.cost.estimate.work_bytes),
        queue: &batch.settings.queue,
        allowed: job.deadline.saturating_duration_since(job.queued_at),
        now,
    };
    workers.bridge.back_in(&prospect, workers.free_in(now))
}

fn stopped_by_drain(workers: &Workers, stop: &StopFlag) -> bool {
    !stop.is_raised() && workers.bridge.everything_stopped().load(Ordering::Relaxed)
}

/// What a panic said, as far as it is text.
fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not a text")
}
