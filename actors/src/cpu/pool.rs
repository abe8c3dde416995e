//! The pool: as many threads as configured, named, with their own stack and niceness, and woken only for work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use super::coalesce::Flights;
use super::containment::Containment;
use super::worker::Worker;
use crate::dispatch::{Batch, Bridge};
use crate::settings::PoolSettings;
use crate::telemetry::Metrics;

/// A pool that could not be started.
#[derive(Debug, Error)]
#[error("cannot start {threads} CPU threads with a stack of {stack_bytes} bytes each: {reason}")]
pub struct PoolError {
    /// `cpu.threads`.
    pub threads: usize,
    /// `cpu.thread_stack`, bytes.
    pub stack_bytes: usize,
    /// What the system said.
    pub reason: String,
}

/// Share of `cpu.memory` that all workers together may keep between jobs: one part in this many.
const KEPT_SHARE: u64 = 4;

/// The workers and the bridge that they empty.
pub(crate) struct Workers {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) containment: Containment,
    pub(super) flights: Flights,
    pool: rayon::ThreadPool,
    /// Each is used by the pool thread of the same index alone; the lock is never contended.
    workers: Vec<Mutex<Worker>>,
}

/// Bytes of work areas that each worker may keep. They are taken off what jobs may reserve, so that both together
/// stay within `cpu.memory`.
fn kept_bytes_max(settings: &PoolSettings) -> u64 {
    settings.work_bytes_max / KEPT_SHARE / settings.threads.get() as u64
}

/// Bytes of working memory that running jobs may reserve together: `cpu.memory` less what workers keep.
pub(crate) fn job_bytes_max(settings: &PoolSettings) -> u64 {
    settings.work_bytes_max - kept_bytes_max(settings) * settings.threads.get() as u64
}

/// The name of a thread; the kernel shows 15 characters of it.
pub(crate) fn thread_name(index: usize) -> String {
    if index < 100 { format!("windlass-cpu-{index}") } else { format!("windl-cpu-{index}") }
}

impl Workers {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// When the system does not give them.
    pub(crate) fn start(
        settings: &PoolSettings,
        bridge: Arc<Bridge>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, PoolError> {
        let nice = settings.nice;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.get())
            .stack_size(settings.thread_stack_bytes)
            .thread_name(thread_name)
            .start_handler(move |index| started(index, nice))
            .exit_handler(|index| tracing::debug!(worker = index, "CPU thread stopped"))
            .panic_handler(|_| {
                // Operations are caught one by one, so this is a panic of ours. The place was given back by its
                // guard and the batch answered by its own.
                tracing::error!("a worker panicked outside an operation; this is a bug");
            })
            .build()
            .map_err(|error| PoolError {
                threads: settings.threads.get(),
                stack_bytes: settings.thread_stack_bytes,
                reason: error.to_string(),
            })?;
        let kept = kept_bytes_max(settings);
        let workers = (0..settings.threads.get()).map(|index| Mutex::new(Worker::new(index, kept))).collect();
        let containment = Containment::new(metrics.operations.len());
        let flights = Flights::default();
        Ok(Arc::new(Self { bridge, metrics, containment, flights, pool, workers }))
    }

    /// Hands a batch over and sees that a worker comes for it.
    pub(crate) fn submit(self: &Arc<Self>, batch: Batch) {
        self.bridge.submit(batch);
        self.wake();
    }

    /// Wakes a worker unless all are awake. Those who are look again before they rest.
    pub(crate) fn wake(self: &Arc<Self>) {
        if self.bridge.places.claim() {
            let workers = Arc::clone(self);
            self.pool.spawn(move || workers.activate());
        }
    }

    /// How long the workers need for all that waits and runs.
    pub(crate) fn drain_in(&self) -> Duration {
        self.bridge.backlog.drains_in(self.workers.len())
    }

    /// Lends the thread's worker to an activation.
    fn activate(self: Arc<Self>) {
        let index = rayon::current_thread_index().expect("activations run on the pool alone");
        let mut worker = self.workers[index].lock().unwrap_or_else(PoisonError::into_inner);
        self.bridge.activation(|batch| worker.run(&self, batch), || self.wake());
        if self.bridge.waiting_jobs() == 0 {
            self.flights.forget_landed();
        }
    }
}

/// Runs on each thread as it starts. Niceness is per thread on Linux, and raising it needs no privilege.
fn started(index: usize, nice: u8) {
    match rustix::process::setpriority_process(None, i32::from(nice)) {
        Ok(()) => tracing::debug!(worker = index, nice, "CPU thread started"),
        Err(error) => tracing::warn!(worker = index, nice, %error, "CPU thread started without its niceness"),
    }
}
