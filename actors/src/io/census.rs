//! How many connections are open at which door, and a place to wait for the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DoorName {
    /// The native protocol over TCP.
    Tcp,
    /// The native protocol over a Unix socket.
    Unix,
    /// HTTP.
    Http,
}

impl DoorName {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Unix, Self::Http];

    /// The word that status and metrics use.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Http => "http",
        }
    }
}

/// Counts connections; grants places up to a limit that all doors share.
#[derive(Debug, Default)]
pub(crate) struct Census {
    open: AtomicUsize,
    doors: [DoorCounters; DoorName::ALL.len()],
    emptied: Notify,
}

/// What happened at one door.
#[derive(Debug, Default)]
pub(crate) struct DoorCounters {
    pub(crate) open: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    /// For lack of a place.
    pub(crate) refused: AtomicU64,
}

impl Census {
    /// Takes a place for a connection unless `limit` are taken, and counts it either way.
    pub(crate) fn enter(self: &Arc<Self>, door: DoorName, limit: usize) -> Option<Resident> {
        let counters = self.door(door);
        let entered = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |open| (open < limit).then_some(open + 1));
        if entered.is_err() {
            counters.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        counters.open.fetch_add(1, Ordering::Relaxed);
        Some(Resident { census: Arc::clone(self), door })
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    pub(crate) fn door(&self, door: DoorName) -> &DoorCounters {
        &self.doors[door as usize]
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
pub(crate) struct Resident {
    census: Arc<Census>,
    door: DoorName,
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.census.door(self.door).open.fetch_sub(1, Ordering::Relaxed);
        if self.census.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.census.emptied.notify_waiters();
        }
    }
}
