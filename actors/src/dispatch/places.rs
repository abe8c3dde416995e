//! How many workers are awake. Decides when a submitter has to wake one, so that neither a job is left behind nor an
//! idle worker spins for more than a moment.

use std::sync::atomic::Ordering;

use crate::sync::{AtomicBool, AtomicUsize};

/// Places for awake workers, one for each thread of the pool in force. Workers of an older pool that still run hold
/// theirs, so that a new pool does not compute beside the old one with more threads than are wanted.
///
/// A submitter first makes its job visible and then calls [`Places::claim`]; a worker that found nothing first calls
/// [`Places::give_back`] and then looks once more. Whichever comes second sees the other, because both sides are
/// sequentially consistent.
///
/// To wake a thread takes several times as long as a light job, and a thread that goes to rest and is woken again at
/// once has another one woken beside it, whose pool cannot know that one is enough. So the only worker that is awake
/// first stands by for a moment, and who comes meanwhile calls it instead: its last look is then sooner.
#[derive(Debug)]
pub(crate) struct Places {
    awake: AtomicUsize,
    limit: AtomicUsize,
    /// Whether a worker stands by that nobody has called.
    standing_by: AtomicBool,
}

/// The only worker that is awake while it has nothing to do. Dropped, it cannot be called any more.
pub(crate) struct StandingBy<'a>(&'a Places);

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            awake: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            standing_by: AtomicBool::new(false),
        }
    }

    /// Takes a place if one is free; the caller then owes an activation. A worker that stands by is called instead.
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        if self.standing_by.load(Ordering::SeqCst) && self.standing_by.swap(false, Ordering::SeqCst) {
            return false;
        }
        self.awake
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |awake| {
                (awake < self.limit()).then_some(awake + 1)
            })
            .is_ok()
    }

    pub(crate) fn give_back(&self) {
        self.awake.fetch_sub(1, Ordering::SeqCst);
    }

    /// Lets a worker that has a place stand by, unless others are awake.
    pub(crate) fn stand_by(&self) -> Option<StandingBy<'_>> {
        if self.awake.load(Ordering::SeqCst) > 1 {
            return None;
        }
        self.standing_by.store(true, Ordering::SeqCst);
        Some(StandingBy(self))
    }

    /// Whether a worker stands by that nobody has called: it has answered all that there was.
    pub(crate) fn is_anyone_standing_by(&self) -> bool {
        self.standing_by.load(Ordering::Acquire)
    }

    /// How many workers may be awake.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::SeqCst)
    }

    /// Another number from now on. Those who are awake stay so; whoever calls this wakes more if there may be more.
    pub(super) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Workers that are awake.
    pub(crate) fn awake(&self) -> usize {
        self.awake.load(Ordering::Relaxed)
    }
}

impl StandingBy<'_> {
    /// Whether somebody has come.
    pub(super) fn is_called(&self) -> bool {
        !self.0.standing_by.load(Ordering::SeqCst)
    }
}

impl Drop for StandingBy<'_> {
    fn drop(&mut self) {
        // Not a store: where it reads a call, it sees what was submitted before.
        self.0.standing_by.swap(false, Ordering::SeqCst);
    }
}
