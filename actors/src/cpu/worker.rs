//! Owns: the work areas of one pool thread. Receives: batches. Sends: answers. Ends when: the pool does.
//! Never: awaits, blocks, sees a socket, or dies of a panic in an operation.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::workers::Workers;
use crate::dispatch::{Answer, Batch, Failure, Job, StopFlag};
use crate::operation::{JobContext, OperationError, OutputBudget, StopCheck, WorkAreas};
use crate::telemetry::{Crew, End};

/// A batch that has run for this long answers what is done and goes back behind whoever is next.
const BATCH_TIME_MAX: Duration = Duration::from_micros(500);

/// What one pool thread keeps from job to job.
pub(crate) struct Worker {
    index: usize,
    areas: WorkAreas,
    kept_bytes_max: u64,
    crew: Arc<Crew>,
}

impl Worker {
    /// `crew` is whose counters it writes, at its index.
    pub(crate) fn new(index: usize, kept_bytes_max: u64, crew: Arc<Crew>) -> Self {
        Self { index, areas: WorkAreas::default(), kept_bytes_max, crew }
    }

    /// Gives back what it kept from job to job.
    pub(crate) fn keep_nothing(&mut self) {
        self.areas = WorkAreas::default();
    }

    /// Runs the jobs of a batch one after the other and answers them together, or in parts if that takes long.
    pub(crate) fn run(&mut self, workers: &Workers, mut batch: Batch) {
        let begun_at = Instant::now();
        let mut now = begun_at;
        while let Some(job) = batch.next() {
            let (answer, ended_at) = self.run_job(workers, &batch, job, now);
            batch.answer(answer);
            now = ended_at;
            if batch.len() > 0 && now - begun_at > BATCH_TIME_MAX {
                batch.send_done();
                workers.bridge.put_back(batch);
                return;
            }
        }
        if self.areas.bytes() > self.kept_bytes_max {
            self.areas.shrink_to(self.kept_bytes_max);
        }
    }

    fn run_job(&mut self, workers: &Workers, batch: &Batch, job: Job, now: Instant) -> (Answer, Instant) {
        let counters = &self.crew.workers()[self.index];
        let entry = &batch.settings.catalogue.entries()[job.entry];
        let queue_time = now.saturating_duration_since(job.queued_at);
        if let Some(failure) = unstarted(workers, batch, &job, now) {
            counters.ended(entry.index, End::Dropped, queue_time, Duration::ZERO);
            let answer = Answer::failed(job.id, failure, job.held);
            return (Answer { queue_time, ..answer }, now);
        }

        counters.started(entry.index, now - workers.metrics.started_at, batch.client);
        let Job { id, arguments, input, deadline, slot, mut held, ref stop, .. } = job;
        let input_bytes = input.len() as u64;
        let result = {
            let mut context = JobContext {
                stop: StopCheck::new(stop, workers.bridge.everything_stopped(), deadline),
                areas: &mut self.areas,
                output: OutputBudget::new(&mut held, input_bytes, batch.output_bytes_max),
            };
            catch_unwind(AssertUnwindSafe(|| entry.operation.run(&arguments, input, &mut context)))
        };
        let ended_at = Instant::now();
        let service_time = ended_at - now;

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
        drop(slot);
        held.shrink_to(outcome.as_ref().map_or(0, |output| output.0.len() as u64));
        (Answer { id, outcome, queue_time, service_time, held }, ended_at)
    }
}

/// Why a job is not even started, if so.
fn unstarted(workers: &Workers, batch: &Batch, job: &Job, now: Instant) -> Option<Failure> {
    let waited = now.saturating_duration_since(job.queued_at);
    if !job.stop.start() {
        Some(Failure::abandoned())
    } else if workers.bridge.everything_stopped().load(Ordering::Relaxed) {
        Some(Failure { retry_safe: true, ..Failure::drain_over() })
    } else if now >= job.deadline {
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
