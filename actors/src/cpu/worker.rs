//! Owns: the work areas of one pool thread. Receives: batches. Sends: answers. Ends when: the pool does.
//! Never: awaits, blocks, sees a socket, or dies of a panic in an operation.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::pool::Workers;
use crate::dispatch::{Answer, Batch, Failure, Job, StopFlag};
use crate::operation::{JobContext, OperationError, OutputBudget, StopCheck, WorkAreas};
use crate::telemetry::End;

/// A batch that has run for this long answers what is done and goes back behind whoever is next.
const BATCH_TIME_MAX: Duration = Duration::from_micros(500);

/// What one pool thread keeps from job to job.
pub(crate) struct Worker {
    index: usize,
    areas: WorkAreas,
    kept_bytes_max: u64,
}

impl Worker {
    pub(crate) fn new(index: usize, kept_bytes_max: u64) -> Self {
        Self { index, areas: WorkAreas::default(), kept_bytes_max }
    }

    /// Runs the jobs of a batch one after the other and answers them together, or in parts if that takes long.
    pub(crate) fn run(&mut self, workers: &Workers, mut batch: Batch) {
        let begun_at = Instant::now();
        let batch_until = begun_at + BATCH_TIME_MAX;
        let mut clock = Clock { now: begun_at, since_start: begun_at - workers.metrics.started_at };
        while let Some(job) = batch.next() {
            let answer = self.run_job(workers, &batch, job, &mut clock);
            batch.answer(answer);
            if batch.len() > 0 && clock.now > batch_until {
                batch.send_done();
                workers.bridge.put_back(batch);
                return;
            }
        }
        if self.areas.bytes() > self.kept_bytes_max {
            self.areas.shrink_to(self.kept_bytes_max);
        }
    }

    fn run_job(&mut self, workers: &Workers, batch: &Batch, job: Job, clock: &mut Clock) -> Answer {
        let counters = &workers.metrics.workers[self.index];
        let entry = &batch.settings.catalogue.entries()[job.entry];
        let taken_at = clock.now;
        let queue_time = taken_at.saturating_duration_since(job.queued_at);
        if let Some(failure) = unstarted(workers, batch, &job, Taken { at: taken_at, waited: queue_time }) {
            counters.ended(entry.index, End::Dropped, queue_time, Duration::ZERO);
            let answer = Answer::failed(job.id, failure, job.held);
            return Answer { queue_time, ..answer };
        }

        counters.started(entry.index, clock.since_start, batch.client);
        let Job { id, arguments, input, deadline, mut held, ref stop, .. } = job;
        let input_bytes = input.len() as u64;
        let result = {
            let mut context = JobContext {
                stop: StopCheck::new(stop, workers.bridge.everything_stopped(), deadline),
                areas: &mut self.areas,
                output: OutputBudget::new(&mut held, input_bytes, batch.output_bytes_max),
            };
            catch_unwind(AssertUnwindSafe(|| entry.operation.run(&arguments, input, &mut context)))
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
        Answer { id, outcome, queue_time, service_time, held }
    }
}

/// The time, read once where one job ends and the next begins.
struct Clock {
    now: Instant,
    /// The same, counted from the start of the daemon.
    since_start: Duration,
}

impl Clock {
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
        Some(Failure::waited_too_long(waited))
    } else {
        None
    }
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
