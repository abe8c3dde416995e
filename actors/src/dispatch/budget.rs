//! What may run at the same time: working memory and jobs of an operation with limited concurrency. Decides who
//! runs, never who is admitted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::job::Batch;
use crate::operation::{Entry, OperationIndex};
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize};

/// What runs now, against what may.
pub(crate) struct Budget {
    work_bytes: AtomicU64,
    work_bytes_max: AtomicU64,
    /// Running jobs of each operation, counted only where its concurrency is limited.
    running: Vec<AtomicUsize>,
    /// Whether a worker left something waiting that did not fit. Whoever frees something then wakes a worker.
    passed_over: AtomicBool,
}

impl Budget {
    pub(crate) fn new(work_bytes_max: u64, n_operations: usize) -> Self {
        Self {
            work_bytes: AtomicU64::new(0),
            work_bytes_max: AtomicU64::new(work_bytes_max),
            running: (0..n_operations).map(|_| AtomicUsize::new(0)).collect(),
            passed_over: AtomicBool::new(false),
        }
    }

    /// Reserves what a batch needs to run, or nothing. One that needs more than there is, because there is less than
    /// when it was admitted, runs when nothing else needs any.
    pub(crate) fn try_reserve(self: &Arc<Self>, batch: &Batch) -> Result<RunPermit, Shortage> {
        let operation = match batch.concurrency_limited() {
            Some(entry) => {
                let limit = entry.concurrency_max.map_or(usize::MAX, usize::from);
                self.running[usize::from(entry.index.0)]
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| (now < limit).then_some(now + 1))
                    .map_err(|_| Shortage::Concurrency)?;
                Some(entry.index)
            }
            None => None,
        };
        let work_bytes = batch.work_bytes();
        if operation.is_none() && work_bytes == 0 {
            return Ok(RunPermit(None));
        }
        // From here on the permit gives back what was taken.
        let mut taken = Taken { budget: Arc::clone(self), work_bytes: 0, operation };
        if work_bytes > 0 {
            self.work_bytes
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |now| {
                    self.has_room(now, work_bytes).then(|| now.saturating_add(work_bytes))
                })
                .map_err(|_| Shortage::Memory)?;
            taken.work_bytes = work_bytes;
        }
        Ok(RunPermit(Some(taken)))
    }

    /// What [`Budget::try_reserve`] would say, without reserving anything.
    pub(crate) fn fits(&self, batch: &Batch) -> Result<(), Shortage> {
        if let Some(entry) = batch.concurrency_limited() {
            let limit = entry.concurrency_max.map_or(usize::MAX, usize::from);
            if self.running[usize::from(entry.index.0)].load(Ordering::SeqCst) >= limit {
                return Err(Shortage::Concurrency);
            }
        }
        let needed = batch.work_bytes();
        if needed > 0 && !self.has_room(self.work_bytes.load(Ordering::SeqCst), needed) {
            return Err(Shortage::Memory);
        }
        Ok(())
    }

    /// Whether `more` bytes fit beside the `now` that are reserved. What was admitted under a higher limit than the
    /// one in force, and needs more than all of that, is not lost: it runs when nothing else needs memory.
    fn has_room(&self, now: u64, more: u64) -> bool {
        now == 0 || now.checked_add(more).is_some_and(|sum| sum <= self.work_bytes_max())
    }

    /// How many jobs like this may run at the same time, where that is bounded.
    pub(crate) fn at_once(&self, entry: &Entry, work_bytes: u64) -> Option<usize> {
        if entry.concurrency_max.is_none() && work_bytes == 0 {
            return None;
        }
        let by_concurrency = entry.concurrency_max.map(usize::from);
        let by_memory = self
            .work_bytes_max()
            .checked_div(work_bytes)
            .map(|n| usize::try_from(n).unwrap_or(usize::MAX).max(1));
        [by_concurrency, by_memory].into_iter().flatten().min()
    }

    pub(crate) fn note_passed_over(&self) {
        self.passed_over.store(true, Ordering::SeqCst);
    }

    /// Whether something was passed over since the last call.
    pub(crate) fn take_passed_over(&self) -> bool {
        self.passed_over.load(Ordering::SeqCst) && self.passed_over.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn n_operations(&self) -> usize {
        self.running.len()
    }

    pub(crate) fn work_bytes(&self) -> u64 {
        self.work_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn work_bytes_max(&self) -> u64 {
        self.work_bytes_max.load(Ordering::SeqCst)
    }

    /// Another limit from now on. What runs keeps what it has.
    pub(super) fn set_work_bytes_max(&self, bytes: u64) {
        self.work_bytes_max.store(bytes, Ordering::SeqCst);
    }
}

/// What a batch has to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// Another job of its operation has to end.
    Concurrency,
    /// Working memory has to become free.
    Memory,
}

/// What a running batch occupies, if it is anything besides its worker; freed when dropped.
pub(crate) struct RunPermit(#[allow(dead_code, reason = "held for its drop")] Option<Taken>);

struct Taken {
    budget: Arc<Budget>,
    work_bytes: u64,
    operation: Option<OperationIndex>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.work_bytes > 0 {
            self.budget.work_bytes.fetch_sub(self.work_bytes, Ordering::SeqCst);
        }
        if let Some(operation) = self.operation {
            self.budget.running[usize::from(operation.0)].fetch_sub(1, Ordering::SeqCst);
        }
    }
}
