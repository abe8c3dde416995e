//! The CPU world as the rest of the daemon sees it: the bridge, and behind it the pool in force.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::coalesce::Flights;
use super::containment::Containment;
use super::pool::{Pool, PoolError, job_bytes_max};
use crate::dispatch::{Batch, Bridge, Failure, Post};
use crate::settings::PoolSettings;
use crate::telemetry::Metrics;

/// The workers and the bridge that they empty.
pub(crate) struct Workers {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) metrics: Arc<Metrics>,
    pub(super) containment: Containment,
    pub(super) flights: Flights,
    pub(super) post: Post,
    pool: ArcSwap<Pool>,
}

impl Workers {
    /// Starts the first pool.
    ///
    /// # Errors
    ///
    /// When the system does not give its threads.
    pub(crate) fn start(
        settings: &PoolSettings,
        bridge: Arc<Bridge>,
        post: Post,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, PoolError> {
        let pool = Pool::start(settings, &metrics)?;
        metrics.crews.take_over(&pool.crew);
        Ok(Arc::new(Self {
            containment: Containment::new(metrics.operations.len()),
            flights: Flights::default(),
            post,
            bridge,
            metrics,
            pool: ArcSwap::from_pointee(pool),
        }))
    }

    /// Hands a batch over and sees that a worker comes for it.
    pub(crate) fn submit(self: &Arc<Self>, batch: Batch) {
        self.bridge.submit(batch);
        self.wake();
    }

    /// Wakes a worker of the pool in force unless as many as may be are awake. Those who are look again before they
    /// rest.
    pub(crate) fn wake(self: &Arc<Self>) {
        if self.bridge.places.claim() {
            // Should another pool take over at this moment, the one it is relieved by is woken instead.
            self.pool.load_full().spawn(Arc::clone(self));
        }
    }

    /// How long the workers need for all that waits and runs.
    pub(crate) fn drain_in(&self) -> Duration {
        self.bridge.backlog.drains_in(self.bridge.places.limit())
    }

    /// When the first worker is free: after the least of what they run by its estimate, at once while one of them rests.
    pub(crate) fn free_in(&self, now: Instant) -> Duration {
        let uptime = now.saturating_duration_since(self.metrics.started_at);
        self.metrics.crews.roster().free_in(self.bridge.places.limit(), uptime)
    }

    /// Forgets what is kept for requests that cannot wait any more, and those that nobody waits for. Never waits
    /// itself; to be called now and then.
    pub(crate) fn forget_old(&self, now: Instant) {
        self.flights.forget_old(now);
        for batch in self.bridge.take_abandoned() {
            batch.operations().for_each(|operation| self.metrics.swept(operation));
            batch.fail(&Failure::abandoned());
        }
    }

    /// This pool is in force from now on. The one before it finishes what it runs and takes nothing more.
    pub(crate) fn take_over(self: &Arc<Self>, pool: Pool) {
        let n_threads = pool.settings.threads.get();
        tracing::info!(
            threads = n_threads,
            thread_stack_bytes = pool.settings.thread_stack_bytes,
            nice = pool.settings.nice,
            memory_bytes = pool.settings.work_bytes_max,
            "new CPU threads take over; those before them finish what they run"
        );
        self.metrics.crews.take_over(&pool.crew);
        self.bridge.resize(n_threads, job_bytes_max(&pool.settings));
        let old = self.pool.swap(Arc::new(pool));
        // After the swap, so that whoever finds itself relieved wakes the new pool and not itself.
        old.relieve();
        // What waits for a place or for memory that there is now has woken nobody.
        for _ in 0..n_threads {
            self.wake();
        }
    }
}

/// Builds pools for a reload. Starting threads takes a moment, so it is for a thread that may wait.
pub struct Recruiter(Arc<Workers>);

impl Recruiter {
    pub(crate) fn new(workers: Arc<Workers>) -> Self {
        Self(workers)
    }

    /// Starts the threads of another pool, which rest until [`Order::Reload`](crate::Order::Reload) puts it in force.
    ///
    /// # Errors
    ///
    /// When the system does not give them, or too many older pools still finish their jobs; the pool in force is not
    /// touched.
    pub fn recruit(&self, settings: &PoolSettings) -> Result<Pool, PoolError> {
        Pool::start(settings, &self.0.metrics)
    }
}
