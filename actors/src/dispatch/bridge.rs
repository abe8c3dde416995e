//! What both worlds hold: the intake, the schedule behind it, and the places of the workers that empty them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::budget::{Budget, RunPermit};
use super::intake::Intake;
use super::job::Batch;
use super::places::Places;
use super::schedule::Schedule;
use super::{Admission, Failure};
use crate::sync::{AtomicUsize, Mutex, MutexGuard};

/// Most batches that a worker moves from the intake into the schedule under one lock.
const MOVES_MAX: usize = 256;

/// The meeting point of the two worlds.
pub(crate) struct Bridge {
    pub(crate) admission: Arc<Admission>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) places: Places,
    intake: Intake,
    schedule: Mutex<Schedule>,
    /// Batches in the intake and the schedule together.
    waiting: AtomicUsize,
    /// Jobs in them.
    waiting_jobs: AtomicUsize,
    /// Batches that were ever taken, so that a watchdog sees whether any are.
    taken: AtomicU64,
    /// Raised by a test: nothing is taken any more.
    #[cfg(feature = "faults")]
    stuck: AtomicBool,
    /// Raised once, when a drain is over: everything that runs stops at its next check.
    stop_everything: AtomicBool,
}

impl Bridge {
    pub(crate) fn new(workers: usize, budget: Budget) -> Self {
        Self {
            admission: Arc::default(),
            budget: Arc::new(budget),
            places: Places::new(workers),
            intake: Intake::new(),
            schedule: Mutex::new(Schedule::default()),
            waiting: AtomicUsize::new(0),
            waiting_jobs: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            #[cfg(feature = "faults")]
            stuck: AtomicBool::new(false),
            stop_everything: AtomicBool::new(false),
        }
    }

    /// Hands a batch to the CPU world. Answers it at once when that takes no more. The caller then wakes a worker.
    pub(crate) fn submit(&self, batch: Batch) {
        // The count goes up before the batch can be seen, so that it never falls below zero.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.waiting_jobs.fetch_add(batch.len(), Ordering::Relaxed);
        if let Err(batch) = self.intake.try_send(batch) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.waiting_jobs.fetch_sub(batch.len(), Ordering::Relaxed);
            batch.fail(&Failure::refused(windlass_protocol::FailureCode::OVERLOADED, "the intake is full"));
        }
    }

    /// Takes what a worker should run next, with what it needs to run reserved.
    fn take(&self) -> Option<(Batch, RunPermit)> {
        if self.waiting.load(Ordering::SeqCst) == 0 || self.is_stuck() {
            return None;
        }
        let mut schedule = self.schedule();
        for batch in std::iter::from_fn(|| self.intake.try_take()).take(MOVES_MAX) {
            schedule.push(batch);
        }
        let taken = schedule.take(|batch| self.budget.try_reserve(batch)).or_else(|| {
            if schedule.is_empty() {
                return None;
            }
            // Said before looking again: whoever frees something after this look sees it and wakes a worker.
            self.budget.note_passed_over();
            schedule.take(|batch| self.budget.try_reserve(batch))
        });
        drop(schedule);
        let (batch, permit) = taken?;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        self.waiting_jobs.fetch_sub(batch.len(), Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some((batch, permit))
    }

    /// The workers are another number from now on, and what they may use is. The caller then wakes as many as there
    /// are places for: what waits for one of them has woken nobody.
    pub(crate) fn resize(&self, workers: usize, work_bytes_max: u64) {
        self.places.set_limit(workers);
        self.budget.set_work_bytes_max(work_bytes_max);
    }

    /// One activation of a worker that has a place: runs what there is until nothing is left that could run, or until
    /// `relieved` says that another pool has taken over. `run` does the work; `wake` wakes one more worker of the pool
    /// in force if a place is free.
    pub(crate) fn activation_until(
        &self,
        relieved: impl Fn() -> bool,
        mut run: impl FnMut(Batch),
        wake: impl Fn(),
    ) {
        loop {
            let place = Awake { places: &self.places, wake: &wake };
            while !relieved()
                && let Some((batch, permit)) = self.take()
            {
                run(batch);
                drop(permit);
                // What did not fit beside this batch may fit now, and this worker takes only one of it.
                if self.budget.take_passed_over() {
                    wake();
                }
            }
            drop(place);
            // The last look: what was submitted while all places were taken has woken nobody.
            if !self.has_runnable() {
                return;
            }
            if relieved() {
                // The place was held against the pool in force, which may have been refused it meanwhile.
                return wake();
            }
            if !self.places.claim() {
                return;
            }
        }
    }

    /// An activation where no other pool ever takes over.
    #[cfg(test)]
    pub(crate) fn activation(&self, run: impl FnMut(Batch), wake: impl Fn()) {
        self.activation_until(|| false, run, wake);
    }

    /// Puts back what a worker did not get to.
    pub(crate) fn put_back(&self, batch: Batch) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.waiting_jobs.fetch_add(batch.len(), Ordering::Relaxed);
        self.schedule().put_back(batch);
    }

    /// Whether there is something that a worker could run.
    fn has_runnable(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
            && !self.is_stuck()
            && (!self.intake.is_empty() || self.schedule().any(|batch| self.budget.fits(batch)))
    }

    /// The same for a watchdog, which must not wait for a worker: while one has the schedule, it is taken to be so.
    pub(crate) fn could_run(&self) -> bool {
        let fits = || match self.schedule.try_lock() {
            Ok(schedule) => schedule.any(|batch| self.budget.fits(batch)),
            Err(TryLockError::Poisoned(schedule)) => {
                schedule.into_inner().any(|batch| self.budget.fits(batch))
            }
            Err(TryLockError::WouldBlock) => true,
        };
        self.waiting.load(Ordering::SeqCst) > 0 && (!self.intake.is_empty() || fits())
    }

    /// Batches that workers have taken since the start.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether a test has stuck the bridge; only a build with `faults` can be.
    fn is_stuck(&self) -> bool {
        #[cfg(feature = "faults")]
        return self.stuck.load(Ordering::SeqCst);
        #[cfg(not(feature = "faults"))]
        false
    }

    /// From now on nothing is taken, as if every wake-up were lost.
    #[cfg(feature = "faults")]
    pub(crate) fn stick(&self) {
        self.stuck.store(true, Ordering::SeqCst);
    }

    /// Answers everything that waits.
    pub(crate) fn fail_waiting(&self, failure: &Failure) {
        let mut batches: Vec<Batch> = std::iter::from_fn(|| self.intake.try_take()).collect();
        batches.extend(self.schedule().drain());
        for batch in batches {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            self.waiting_jobs.fetch_sub(batch.len(), Ordering::Relaxed);
            batch.fail(failure);
        }
    }

    /// Stops all that runs at its next check, and all that will be taken.
    pub(crate) fn stop_everything(&self) {
        self.stop_everything.store(true, Ordering::SeqCst);
    }

    pub(crate) fn everything_stopped(&self) -> &AtomicBool {
        &self.stop_everything
    }

    /// Jobs that no worker has taken yet.
    pub(crate) fn waiting_jobs(&self) -> usize {
        self.waiting_jobs.load(Ordering::Relaxed)
    }

    /// How long the oldest job has waited that no worker has taken yet, or `None` while a worker has the schedule:
    /// whoever looks must not wait for a thread of lower priority.
    pub(crate) fn oldest_waiting(&self, now: Instant) -> Option<Duration> {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return Some(Duration::ZERO);
        }
        let mut schedule = match self.schedule.try_lock() {
            Ok(schedule) => schedule,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // What is in the intake cannot be looked at from outside; what is moved is older than what is left.
        for batch in std::iter::from_fn(|| self.intake.try_take()).take(MOVES_MAX) {
            schedule.push(batch);
        }
        Some(schedule.oldest().map_or(Duration::ZERO, |since| now.saturating_duration_since(since)))
    }

    /// The schedule stays whole whatever happens under the lock: each step is one call on a `VecDeque`.
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker's place while it is awake; given back when dropped, panic or not.
struct Awake<'a, W: Fn()> {
    places: &'a Places,
    wake: &'a W,
}

impl<W: Fn()> Drop for Awake<'_, W> {
    fn drop(&mut self) {
        self.places.give_back();
        if std::thread::panicking() {
            // What this worker would have taken next must not wait for the next submit.
            (self.wake)();
        }
    }
}
