//! What both worlds hold: the intake, the schedule behind it, and the places of the workers that empty them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::budget::{Budget, RunPermit};
use super::intake::Intake;
use super::job::{Batch, Class, Occupied};
use super::places::Places;
use super::schedule::{Schedule, Settlement, Taken};
use super::{Admission, Backlog, CostModel, Failure};
use crate::sync::{AtomicUsize, Mutex, MutexGuard};

/// Most batches that a worker moves from the intake into the schedule under one lock: some 1 ms of moving. Who is
/// still in the intake cannot be next, however light.
const MOVES_MAX: usize = 4096;

/// Batches that may be taken as they came while each of them is light: some milliseconds at most.
const FEW: usize = 64;

/// What a worker does with what it takes.
pub(crate) trait Hands {
    /// Runs a batch; says how much CPU time it used.
    fn run(&mut self, batch: Batch) -> Duration;

    /// Nothing is left that could run.
    fn rest(&mut self) {}

    /// Stays awake for a moment, or until it is called.
    fn stand_by(&mut self, _is_called: impl Fn() -> bool) {}
}

impl<F: FnMut(Batch) -> Duration> Hands for F {
    fn run(&mut self, batch: Batch) -> Duration {
        self(batch)
    }
}

/// The meeting point of the two worlds.
pub(crate) struct Bridge {
    pub(crate) admission: Arc<Admission>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) places: Places,
    pub(crate) backlog: Arc<Backlog>,
    pub(crate) costs: CostModel,
    intake: Intake,
    /// Apart from what the I/O world writes, whose turns would else wait for the workers' lock.
    schedule: CachePadded<Mutex<Schedule>>,
    waiting: CachePadded<Waiting>,
    /// Batches that were ever taken, so that a watchdog sees whether any are.
    taken: CachePadded<AtomicU64>,
    /// Raised by a test: nothing is taken any more.
    #[cfg(feature = "faults")]
    stuck: AtomicBool,
    /// Raised once, when a drain is over: everything that runs stops at its next check.
    stop_everything: AtomicBool,
}

/// What is in the intake and the schedule together.
struct Waiting {
    batches: AtomicUsize,
    jobs: AtomicUsize,
}

impl Bridge {
    pub(crate) fn new(workers: usize, budget: Budget) -> Self {
        let n_operations = budget.n_operations();
        Self {
            admission: Arc::default(),
            budget: Arc::new(budget),
            places: Places::new(workers),
            backlog: Arc::new(Backlog::new(n_operations)),
            costs: CostModel::new(n_operations),
            intake: Intake::new(),
            schedule: CachePadded::new(Mutex::new(Schedule::default())),
            waiting: CachePadded::new(Waiting { batches: AtomicUsize::new(0), jobs: AtomicUsize::new(0) }),
            taken: CachePadded::default(),
            #[cfg(feature = "faults")]
            stuck: AtomicBool::new(false),
            stop_everything: AtomicBool::new(false),
        }
    }

    /// Hands a batch to the CPU world. Answers it at once when that takes no more. The caller then wakes a worker.
    pub(crate) fn submit(&self, batch: Batch) {
        // The counts go up before the batch can be seen, so that they never fall below zero.
        self.enters(&batch);
        if let Err(batch) = self.intake.try_send(batch) {
            self.leaves(&batch);
            batch.fail(&Failure::refused(windlass_protocol::FailureCode::OVERLOADED, "the intake is full"));
        }
    }

    fn enters(&self, batch: &Batch) {
        self.backlog.batch_enters(batch);
        self.waiting.jobs.fetch_add(batch.len(), Ordering::Relaxed);
        self.waiting.batches.fetch_add(1, Ordering::SeqCst);
    }

    fn leaves(&self, batch: &Batch) {
        self.waiting.batches.fetch_sub(1, Ordering::SeqCst);
        self.waiting.jobs.fetch_sub(batch.len(), Ordering::Relaxed);
        self.backlog.batch_leaves(batch);
    }

    /// Takes what a worker should run or answer next. `ended` is what this worker did before,
    /// and is left where nobody had to look at the schedule.
    pub(super) fn take(&self, ended: &mut Option<(Settlement, Duration)>) -> Option<Taken<RunPermit>> {
        if self.waiting.batches.load(Ordering::SeqCst) == 0 || self.is_stuck() {
            return None;
        }
        let now = Instant::now();
        let mut schedule = self.schedule();
        if let Some((settlement, used)) = ended.take() {
            schedule.settle(&settlement, used);
        }
        let mut arrived = std::iter::from_fn(|| self.intake.try_take()).take(MOVES_MAX);
        let mut passed = None;
        if schedule.is_empty()
            && let Some(batch) = arrived.next()
        {
            // Alone or nearly so, as most are while the workers keep up.
            if self.intake.is_empty() || self.are_few_and(&batch) {
                passed = schedule.pass(batch, now, |batch| self.budget.try_reserve(batch));
            } else {
                schedule.push(batch);
            }
        }
        if passed.is_none() {
            arrived.for_each(|batch| schedule.push(batch));
        }
        let taken =
            passed.or_else(|| schedule.take(now, |batch| self.budget.try_reserve(batch))).or_else(|| {
                if schedule.is_empty() {
                    return None;
                }
                // Said before looking again: whoever frees something after this look sees it and wakes a worker.
                self.budget.note_passed_over();
                schedule.take(now, |batch| self.budget.try_reserve(batch))
            });
        if let Some(Taken::Job(batch, _)) = &taken {
            self.backlog.set_clock(batch.class, schedule.clock(batch.class));
        }
        drop(schedule);
        let taken = taken?;
        let (Taken::Job(batch, _) | Taken::Lost(batch)) = &taken;
        self.leaves(batch);
        self.taken.fetch_add(1, Ordering::Relaxed);
        Some(taken)
    }

    /// Whether a batch that came first need not be compared with those behind it: somebody waits for it, it is light,
    /// and so few are they that the next heavy one is come to in a moment.
    fn are_few_and(&self, first: &Batch) -> bool {
        first.class == Class::Interactive
            && first.is_light()
            && self.waiting.batches.load(Ordering::Relaxed) <= FEW
    }

    /// The workers are another number from now on, and what they may use is. The caller then wakes as many as there
    /// are places for: what waits for one of them has woken nobody.
    pub(crate) fn resize(&self, workers: usize, work_bytes_max: u64) {
        self.places.set_limit(workers);
        self.budget.set_work_bytes_max(work_bytes_max);
    }

    /// One activation of a worker that has a place: runs what there is until nothing is left that could run, or until
    /// `relieved` says that another pool has taken over. `hands` do the work; `wake` calls one more worker of the pool
    /// in force if a place is free.
    pub(crate) fn activation_until(
        &self,
        relieved: impl Fn() -> bool,
        mut hands: impl Hands,
        wake: impl Fn(),
    ) {
        loop {
            let place = Awake { places: &self.places, wake: &wake };
            let mut ended = None;
            while !relieved()
                && let Some(taken) = self.take(&mut ended)
            {
                let (Taken::Job(batch, _) | Taken::Lost(batch)) = &taken;
                if batch.work_bytes() > 0 && self.waiting.batches.load(Ordering::SeqCst) > 0 {
                    // More may fit beside it, or in its place, than this worker can take: whoever comes and takes some
                    // of that wakes the next.
                    wake();
                }
                match taken {
                    Taken::Job(mut batch, permit) => {
                        let settlement = Settlement::of(&batch);
                        let running = self.backlog.runs(&batch);
                        batch.occupy(Occupied { _permit: permit, running });
                        let used = hands.run(batch);
                        ended = Some((settlement, used));
                    }
                    Taken::Lost(batch) => drop(hands.run(batch)),
                }
                // What did not fit beside this batch may fit now, and this worker takes only one of it.
                if self.budget.take_passed_over() {
                    wake();
                }
            }
            if let Some((settlement, used)) = ended {
                self.schedule().settle(&settlement, used);
            }
            // While the place is held, so that whoever is answered now and asks again need not wake anybody.
            hands.rest();
            if !relieved()
                && let Some(standing) = self.places.stand_by()
            {
                hands.stand_by(|| standing.is_called());
            }
            drop(place);
            // The last look: what was submitted while all places were taken, or somebody stood by, has woken nobody.
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
    pub(crate) fn activation(&self, hands: impl FnMut(Batch) -> Duration, wake: impl Fn()) {
        self.activation_until(|| false, hands, wake);
    }

    /// Puts back what a worker did not get to.
    pub(crate) fn put_back(&self, mut batch: Batch) {
        batch.vacate();
        self.enters(&batch);
        self.schedule().put_back(batch);
    }

    /// Whether there is something that a worker could run.
    fn has_runnable(&self) -> bool {
        self.waiting.batches.load(Ordering::SeqCst) > 0
            && !self.is_stuck()
            && (!self.intake.is_empty()
                || self.schedule().any(Instant::now(), |batch| self.budget.fits(batch)))
    }

    /// The same for a watchdog, which must not wait for a worker: while one has the schedule, it is taken to be so.
    pub(crate) fn could_run(&self) -> bool {
        let any = |schedule: &Schedule| schedule.any(Instant::now(), |batch| self.budget.fits(batch));
        let fits = || match self.schedule.try_lock() {
            Ok(schedule) => any(&schedule),
            Err(TryLockError::Poisoned(schedule)) => any(&schedule.into_inner()),
            Err(TryLockError::WouldBlock) => true,
        };
        self.waiting.batches.load(Ordering::SeqCst) > 0 && (!self.intake.is_empty() || fits())
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
            self.leaves(&batch);
            batch.fail(failure);
        }
    }

    /// Takes out what nobody waits for any more, to be answered: it holds what it holds until a worker comes to it, and
    /// behind a long job of another client that may be long. Nothing while a worker has the schedule: whoever looks
    /// must not wait for a thread of lower priority, and comes again.
    pub(crate) fn take_abandoned(&self) -> Vec<Batch> {
        if self.waiting.batches.load(Ordering::SeqCst) == 0 {
            return Vec::new();
        }
        let abandoned = match self.schedule.try_lock() {
            Ok(mut schedule) => schedule.take_abandoned(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().take_abandoned(),
            Err(TryLockError::WouldBlock) => Vec::new(),
        };
        abandoned.iter().for_each(|batch| self.leaves(batch));
        abandoned
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
        self.waiting.jobs.load(Ordering::Relaxed)
    }

    /// How long the oldest job has waited that no worker has taken yet, or `None` while a worker has the schedule:
    /// whoever looks must not wait for a thread of lower priority.
    pub(crate) fn oldest_waiting(&self, now: Instant) -> Option<Duration> {
        if self.waiting.batches.load(Ordering::SeqCst) == 0 {
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

    /// Nothing panics under this lock; if something did, what waits would still be taken or answered.
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
