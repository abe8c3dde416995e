//! A pool: as many threads as configured, named, with their own stack and niceness, and woken only for work. Another
//! one can take its place while the daemon serves; [`Workers`](super::Workers) says when.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::worker::Worker;
use super::workers::Workers;
use crate::settings::PoolSettings;
use crate::telemetry::{Crew, Metrics};

/// A pool that could not be started.
#[derive(Debug, Error)]
pub enum PoolError {
    /// The system did not give its threads.
    #[error("cannot start {threads} CPU threads with a stack of {stack_bytes} bytes each: {reason}")]
    Threads {
        /// `cpu.threads`.
        threads: usize,
        /// `cpu.thread_stack`, bytes.
        stack_bytes: usize,
        /// What the system said.
        reason: String,
    },
    /// So many pools were replaced lately that one more would be too many threads.
    #[error(
        "cannot start another CPU pool while {leaving} older ones finish their last jobs; reload again when they \
         have, or restart"
    )]
    Leaving {
        /// Pools whose threads have not ended.
        leaving: usize,
    },
}

/// Pools that may still finish jobs when another one is started. Each keeps all of its threads until its last job has
/// ended, which a deadline bounds; this bounds how many threads repeated reloads can add up to.
const POOLS_LEAVING_MAX: usize = 4;

/// Share of `cpu.memory` that all workers together may keep between jobs: one part in this many.
const KEPT_SHARE: u64 = 4;

/// Threads that stand ready and the workers that they run. Those of a pool that never takes over end when it is
/// dropped.
pub struct Pool {
    pub(super) settings: PoolSettings,
    /// What its workers count.
    pub(super) crew: Arc<Crew>,
    threads: rayon::ThreadPool,
    /// Each is used by the pool thread of the same index alone; the lock is never contended.
    workers: Vec<Mutex<Worker>>,
    /// Raised once, when another pool has taken over.
    relieved: AtomicBool,
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

impl Pool {
    /// Starts the threads. They rest until the pool takes over.
    ///
    /// # Errors
    ///
    /// When the system does not give them, or too many older ones are still there. None is left running then.
    pub(super) fn start(settings: &PoolSettings, metrics: &Arc<Metrics>) -> Result<Self, PoolError> {
        let leaving = metrics.crews.roster().leaving.len();
        if leaving >= POOLS_LEAVING_MAX {
            return Err(PoolError::Leaving { leaving });
        }
        let nice = settings.nice;
        let crew = metrics.crews.recruit(settings.threads.get());
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(settings.threads.get())
            .stack_size(settings.thread_stack_bytes)
            .thread_name(thread_name)
            .start_handler(move |index| started(index, nice))
            .exit_handler(ended(&crew, metrics))
            .panic_handler(|_| {
                // Operations are caught one by one, so this is a panic of ours. The place was given back by its
                // guard and the batch answered by its own.
                tracing::error!("a worker panicked outside an operation; this is a bug");
            })
            .build()
            .map_err(|error| PoolError::Threads {
                threads: settings.threads.get(),
                stack_bytes: settings.thread_stack_bytes,
                reason: error.to_string(),
            })?;
        let kept = kept_bytes_max(settings);
        let worker = |index| Mutex::new(Worker::new(index, kept, Arc::clone(&crew)));
        let workers = (0..settings.threads.get()).map(worker).collect();
        let relieved = AtomicBool::new(false);
        Ok(Self { settings: settings.clone(), crew, threads, workers, relieved })
    }

    /// Runs an activation on one of the threads. The pool stays until it has ended.
    pub(super) fn spawn(self: Arc<Self>, workers: Arc<Workers>) {
        let pool = Arc::clone(&self);
        self.threads.spawn(move || pool.activate(&workers));
    }

    /// Lends the thread's worker to an activation.
    fn activate(&self, workers: &Arc<Workers>) {
        let index = rayon::current_thread_index().expect("activations run on the pool alone");
        let mut worker = self.workers[index].lock().unwrap_or_else(PoisonError::into_inner);
        let relieved = || self.relieved.load(Ordering::SeqCst);
        let shift = worker.begin(workers);
        workers.bridge.activation_until(relieved, shift, || workers.wake());
        if workers.bridge.waiting_jobs() == 0 && workers.bridge.places.awake() == 0 {
            workers.flights.forget_landed();
        }
        if relieved() {
            worker.keep_nothing();
        }
    }

    /// Another pool has taken over: what runs is finished, nothing more is taken. The threads end with the last job.
    pub(super) fn relieve(&self) {
        self.relieved.store(true, Ordering::SeqCst);
        // Who rests would keep its work areas for as long as another one runs.
        for worker in &self.workers {
            if let Ok(mut worker) = worker.try_lock() {
                worker.keep_nothing();
            }
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

/// Runs on each thread as it ends. With the last one, nobody counts for this crew any more.
fn ended(crew: &Arc<Crew>, metrics: &Arc<Metrics>) -> impl Fn(usize) + Send + Sync + 'static {
    let (crew, metrics) = (Arc::clone(crew), Arc::clone(metrics));
    let running = AtomicUsize::new(crew.workers().len());
    move |index| {
        tracing::debug!(worker = index, "CPU thread stopped");
        if running.fetch_sub(1, Ordering::AcqRel) == 1 && metrics.crews.gone(&crew) {
            tracing::info!(threads = crew.workers().len(), "the CPU threads that were replaced have ended");
        }
    }
}
