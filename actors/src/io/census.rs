//! How many connections are open, and a place to wait for the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts connections; grants places up to a limit.
#[derive(Debug, Default)]
pub(crate) struct Census {
    open: AtomicUsize,
    emptied: Notify,
}

impl Census {
    /// Takes a place for a connection unless `limit` are taken.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Option<Resident> {
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| (open < limit).then_some(open + 1))
            .ok()?;
        Some(Resident(Arc::clone(self)))
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits until nothing is open. Cancel safe: it only looks.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.open() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A connection's place; freed when dropped.
#[derive(Debug)]
pub(crate) struct Resident(Arc<Census>);

impl Drop for Resident {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
