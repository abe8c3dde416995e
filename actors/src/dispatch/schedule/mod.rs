//! What waits for a worker, and who is next.
//!
//! Whoever is free pulls: a worker moves what has come over the bridge in here and takes the next batch, under one
//! short lock. Interactive and batch work share CPU time by weight; within a class it is shared between clients, and
//! within a client short work goes before long work that has had as much.
//!
//! All three are fair queueing in virtual time (Goyal, Vin, Cheng: Start-time Fair Queuing, 1996) rather than deficit
//! round robin, which has the same shares: a round robin needs a quantum, and jobs from 1 µs to 60 s have none that
//! is not either far too small for some or a long wait for others.
//!
//! What needs more memory than is free is passed over by what needs less, but not for ever: see [`PASSED_OVER_MAX`].

mod class;
mod lane;
mod line;
mod standing;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Shortage;
use super::client::Client;
use super::job::{Batch, Class};
use class::ClassQueue;
use standing::Standing;

/// Batches in the order in which workers should take them.
pub(crate) struct Schedule {
    interactive: ClassQueue,
    batch: ClassQueue,
    /// Where the class that was served last stood when it was: the clock of [`ClassQueue::spent`].
    now: Duration,
    standing: Standing,
}

/// What a worker takes.
pub(crate) enum Taken<T> {
    /// To be run, with what was reserved for it.
    Job(Batch, T),
    /// To be answered: nobody waits for it any more, or it cannot end before its deadline.
    Lost(Batch),
}

/// A line that has been passed over for long enough: the memory that it needs is kept for it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    since: Instant,
    class: Class,
    /// Of its line.
    place: usize,
}

/// CPU time that was charged by estimate and is now known.
pub(crate) struct Settlement {
    client: Arc<Client>,
    class: Class,
    /// Parts of the class's clock for one of CPU time.
    weight: u32,
    charged: Duration,
}

/// Even work that is estimated as nothing counts, so that nobody can hold the others off for ever.
const COST_MIN: Duration = Duration::from_micros(1);

/// For how long work that it is the turn of may be passed over for want of memory. Then nothing else that needs memory
/// is begun in either class until it fits; what needs none goes on.
///
/// Long enough for ordinary work to pack the memory well, short against the deadlines of those who wait.
const PASSED_OVER_MAX: Duration = Duration::from_millis(100);

/// How far a class whose work waits may stay behind the one that is served, on their common clock. It stays behind
/// while none of its work can run, for want of memory or of a place for its operation: what it may have
/// then at once, others wait for. Batch work, whose time counts several times, may have as much less.
const CLASS_LAG_MAX: Duration = Duration::from_millis(250);

/// Batches that one look for those that nobody waits for goes over, but for the last client's: well below a millisecond.
const LOOK_MAX: usize = 4096;

/// What a batch is charged when it is taken.
fn cost(batch: &Batch) -> Duration {
    batch.cpu().max(COST_MIN)
}

/// How long a batch that is taken has waited, if its client has more that waits.
fn standing_wait(batch: &Batch, now: Instant) -> Option<Duration> {
    let since = batch.oldest().filter(|_| batch.client().has_more_than(batch.class, 1))?;
    Some(now.saturating_duration_since(since))
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            interactive: ClassQueue::new(Class::Interactive),
            batch: ClassQueue::new(Class::Batch),
            now: Duration::ZERO,
            standing: Standing::default(),
        }
    }
}

impl Settlement {
    /// What has to be settled once a batch that is about to run has ended.
    pub(crate) fn of(batch: &Batch) -> Self {
        let weight = match batch.class {
            Class::Interactive => 1,
            Class::Batch => batch.settings.queue.batch_share.get() - 1,
        };
        Self { client: Arc::clone(batch.client()), class: batch.class, weight, charged: cost(batch) }
    }
}

impl Schedule {
    pub(crate) fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.batch.is_empty()
    }

    /// Adds a batch at the end of its client's.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.class_to_fill(batch.class).push(batch);
    }

    /// Puts the rest of a batch back where it came from.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.class_to_fill(batch.class).put_back(batch);
    }

    fn class(&self, class: Class) -> &ClassQueue {
        match class {
            Class::Interactive => &self.interactive,
            Class::Batch => &self.batch,
        }
    }

    fn class_mut(&mut self, class: Class) -> &mut ClassQueue {
        match class {
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        }
    }

    /// A class that had nothing to do starts level with the one that was served last: it has saved nothing up.
    fn class_to_fill(&mut self, class: Class) -> &mut ClassQueue {
        let now = self.now;
        let queue = self.class_mut(class);
        if queue.is_empty() {
            queue.spent = queue.spent.max(now);
        }
        queue
    }

    /// Takes the next batch for which `reserve` finds what it needs, or one that is lost.
    pub(crate) fn take<T>(
        &mut self,
        now: Instant,
        mut reserve: impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<Taken<T>> {
        if self.standing.stands(now)
            && let Some(lost) =
                [&mut self.interactive, &mut self.batch].into_iter().find_map(|class| class.take_lost(now))
        {
            return Some(Taken::Lost(lost));
        }
        let mut claimed = false;
        for Claim { class, place, .. } in self.claims(now) {
            match self.class_mut(class).take_early(place, now, &mut reserve) {
                Ok(taken) => return Some(self.took(taken, now)),
                Err(Shortage::Memory) => {
                    claimed = true;
                    break;
                }
                // Memory would not help it.
                Err(Shortage::Concurrency) => {}
            }
        }
        let mut reserve = |batch: &Batch| match claimed && batch.work_bytes() > 0 {
            true => Err(Shortage::Memory),
            false => reserve(batch),
        };
        let (first, second) = match self.interactive.spent <= self.batch.spent {
            true => (&mut self.interactive, &mut self.batch),
            false => (&mut self.batch, &mut self.interactive),
        };
        let taken = match first.take(now, &mut reserve) {
            Some(taken) => taken,
            None => {
                let taken = second.take(now, &mut reserve)?;
                if let (Taken::Job(batch, _), _) = &taken
                    && batch.work_bytes() > 0
                {
                    first.pass_over_short(now);
                }
                taken
            }
        };
        Some(self.took(taken, now))
    }

    /// Notes what is about to be taken, and from where its class was served.
    fn took<T>(&mut self, (taken, served_from): (Taken<T>, Duration), now: Instant) -> Taken<T> {
        self.now = self.now.max(served_from);
        let least = self.now.saturating_sub(CLASS_LAG_MAX);
        for class in [&mut self.interactive, &mut self.batch] {
            class.spent = class.spent.max(least);
        }
        if let Taken::Job(batch, _) = &taken {
            self.standing.took(standing_wait(batch, now), now);
        }
        taken
    }

    /// Who has been passed over for long enough, the longest first.
    fn claims(&self, now: Instant) -> Vec<Claim> {
        let of = |class: Class| {
            let passed_over = self.class(class).passed_over();
            passed_over.map(move |(since, place)| Claim { since, class, place })
        };
        let all = of(Class::Interactive).chain(of(Class::Batch));
        let is_due = |claim: &Claim| now.saturating_duration_since(claim.since) >= PASSED_OVER_MAX;
        let mut claims: Vec<Claim> = all.filter(is_due).collect();
        claims.sort_unstable();
        claims
    }

    /// The same for a batch that has come when nothing else waits: it need not stand in line. One for which `reserve`
    /// finds too little stands in line all the same.
    pub(crate) fn pass<T>(
        &mut self,
        batch: Batch,
        now: Instant,
        reserve: impl FnOnce(&Batch) -> Result<T, Shortage>,
    ) -> Option<Taken<T>> {
        debug_assert!(self.is_empty(), "what waits comes first");
        if batch.is_lost(now) {
            return Some(Taken::Lost(batch));
        }
        let Ok(reserved) = reserve(&batch) else {
            self.push(batch);
            return None;
        };
        let served_from = self.class_to_fill(batch.class).pass(&batch);
        self.now = self.now.max(served_from);
        self.standing.took(standing_wait(&batch, now), now);
        Some(Taken::Job(batch, reserved))
    }

    /// Where the virtual time of a class stands, nanoseconds.
    pub(crate) fn clock(&self, class: Class) -> u64 {
        match class {
            Class::Interactive => self.interactive.clock(),
            Class::Batch => self.batch.clock(),
        }
    }

    /// What was charged by estimate is charged as it was used.
    pub(crate) fn settle(&mut self, settlement: &Settlement, used: Duration) {
        let Settlement { client, class, weight, charged } = settlement;
        let class = self.class_mut(*class);
        class.spent = (class.spent + used * *weight).saturating_sub(*charged * *weight);
        class.settle(client, *charged, used);
    }

    /// Whether [`Schedule::take`] would find something.
    pub(crate) fn any(&self, now: Instant, mut fits: impl FnMut(&Batch) -> Result<(), Shortage>) -> bool {
        let mut claimed = false;
        for Claim { class, place, .. } in self.claims(now) {
            match self.class(class).fits(place, now, &mut fits) {
                Ok(()) => return true,
                Err(Shortage::Memory) => {
                    claimed = true;
                    break;
                }
                Err(Shortage::Concurrency) => {}
            }
        }
        let mut fits = |batch: &Batch| match claimed && batch.work_bytes() > 0 {
            true => Err(Shortage::Memory),
            false => fits(batch),
        };
        [&self.interactive, &self.batch].into_iter().any(|class| class.any(now, &mut fits))
    }

    /// When the job that has waited longest was given to the bridge.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        [&self.interactive, &self.batch].into_iter().filter_map(ClassQueue::oldest).min()
    }

    /// Takes out what nobody waits for any more, of which a look finds some thousands at most. What it has not looked at
    /// is looked at by the next.
    pub(crate) fn take_abandoned(&mut self) -> Vec<Batch> {
        let mut left = LOOK_MAX;
        let classes = [&mut self.interactive, &mut self.batch].into_iter();
        classes.flat_map(|class| class.take_abandoned(&mut left)).collect()
    }

    /// Takes everything out, to be answered.
    pub(crate) fn drain(&mut self) -> Vec<Batch> {
        [&mut self.interactive, &mut self.batch].into_iter().flat_map(ClassQueue::drain).collect()
    }
}
