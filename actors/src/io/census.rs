//! How many connections are open at which door, and a place to wait for the last one.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

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
    roll: Mutex<Roll>,
}

/// Whom to call when the daemon enters a phase: a waker each, where a place in the queue of a channel would be the
/// largest part of an idle connection.
#[derive(Debug, Default)]
struct Roll {
    wakers: Vec<Option<Waker>>,
    /// Places without a waker.
    free: Vec<NonZeroU32>,
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
        Some(Resident { census: Arc::clone(self), door, place: None })
    }

    /// Wakes everybody on the roll. What they are to see has to be there before.
    pub(crate) fn call(&self) {
        let wakers: Vec<Waker> = self.roll().wakers.iter().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Each step under the lock leaves the roll whole.
    fn roll(&self) -> MutexGuard<'_, Roll> {
        self.roll.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Roll {
    fn add(&mut self, waker: Waker) -> Option<NonZeroU32> {
        let place = self.free.pop().or_else(|| {
            self.wakers.push(None);
            u32::try_from(self.wakers.len()).ok().and_then(NonZeroU32::new)
        })?;
        self.wakers[place.get() as usize - 1] = Some(waker);
        Some(place)
    }

    fn remove(&mut self, place: NonZeroU32) {
        self.wakers[place.get() as usize - 1] = None;
        self.free.push(place);
        if self.free.len() == self.wakers.len() {
            *self = Self::default();
        }
    }
}

/// A connection's place; freed when dropped.
#[derive(Debug)]
pub(crate) struct Resident {
    census: Arc<Census>,
    door: DoorName,
    /// On the roll, from 1 on.
    place: Option<NonZeroU32>,
}

impl Resident {
    /// Puts the task of this connection on the roll, once: a connection stays in its task. To be called before looking
    /// at what [`Census::call`] calls for, so that no call is missed.
    pub(crate) fn enroll(&mut self, waker: &Waker) {
        if self.place.is_none() {
            self.place = self.census.roll().add(waker.clone());
        }
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.census.roll().remove(place);
        }
        self.census.door(self.door).open.fetch_sub(1, Ordering::Relaxed);
        if self.census.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.census.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Called(AtomicUsize);

    impl Wake for Called {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn whoever_is_on_the_roll_is_called_every_time_and_nobody_else_is() {
        let census = Arc::new(Census::default());
        let called: [Arc<Called>; 4] = Default::default();
        let counts = || called.each_ref().map(|called| called.0.load(Ordering::Relaxed));
        let enter = |place: usize| {
            let mut resident = census.enter(DoorName::Tcp, 4).unwrap();
            resident.enroll(&Arc::clone(&called[place]).into());
            resident.enroll(&Arc::clone(&called[place]).into());
            resident
        };
        let (first, second) = (enter(0), enter(1));
        census.call();
        assert_eq!(counts(), [1, 1, 0, 0]);
        drop(first);
        let third = enter(2);
        let _unlisted = census.enter(DoorName::Http, 4).unwrap();
        census.call();
        assert_eq!(counts(), [1, 2, 1, 0]);
        drop((second, third));
        assert!(census.roll().wakers.is_empty(), "the places are not kept");
        let _fourth = enter(3);
        census.call();
        assert_eq!(counts(), [1, 2, 1, 1]);
    }
}
