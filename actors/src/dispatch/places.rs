//! How many workers are awake. Decides when a submitter has to wake one, so that neither a job is left behind nor an
//! idle worker spins.

use std::sync::atomic::Ordering;

use crate::sync::AtomicUsize;

/// Places for awake workers, one for each thread of the pool in force. Workers of an older pool that still run hold
/// theirs, so that a new pool does not compute beside the old one with more threads than are wanted.
///
/// A submitter first makes its job visible and then calls [`Places::claim`]; a worker that found nothing first calls
/// [`Places::give_back`] and then looks once more. Whichever comes second sees the other, because both sides are
/// sequentially consistent.
#[derive(Debug)]
pub(crate) struct Places {
    awake: AtomicUsize,
    limit: AtomicUsize,
}

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self { awake: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    /// Takes a place if one is free; the caller then owes an activation.
    #[must_use]
    pub(crate) fn claim(&self) -> bool {
        self.awake
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |awake| {
                (awake < self.limit()).then_some(awake + 1)
            })
            .is_ok()
    }

    pub(crate) fn give_back(&self) {
        self.awake.fetch_sub(1, Ordering::SeqCst);
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
