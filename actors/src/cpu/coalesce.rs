//! Identical requests in flight run once, where the operator has asked for it.
//!
//! The first that a worker takes runs, the *leader*; those taken meanwhile wait beside it, and those that are still
//! queued when it ends find its result here. A leader that ends without a result shares nothing: whoever waited
//! beside it goes back into the queue, and the first of them leads.
//!
//! *In flight* is a request from the moment at which it is given to the bridge until it is answered: a result is for
//! those who came before it was there, and for nobody later. It is therefore kept for no longer than any of them may
//! wait, `queue.max_wait`. Who waits beside a leader waits for no worker: its own deadline alone ends that.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::digest::Digest;
use crate::dispatch::{Batch, HeldBytes};
use crate::operation::Output;

/// Results that are kept for requests that were queued before they were there. When there are more, all are dropped:
/// whoever misses one runs by itself.
const LANDED_MAX: usize = 64;

/// Requests that run, or have run, for more than one client.
#[derive(Default)]
pub(super) struct Flights {
    flights: Mutex<HashMap<Digest, Flight>>,
    n_landed: AtomicUsize,
}

enum Flight {
    /// Next: [`Flight::Landed`], or none.
    Running(Vec<Batch>),
    /// Next: none.
    Landed(Landed),
}

/// A result for those who were in flight at the same time.
struct Landed {
    output: Output,
    ended_at: Instant,
    /// Nobody is queued any more then who was in flight with it.
    until: Instant,
    _held: HeldBytes,
}

/// A result that is to be kept.
pub(super) struct Kept {
    pub(super) output: Output,
    pub(super) held: HeldBytes,
    /// The longest that those may wait who are in flight with it.
    pub(super) wait_max: Duration,
}

/// What a worker does with a batch of one job that may be shared.
pub(super) enum Boarding {
    /// It runs.
    Leads(Batch),
    /// It waits beside the one that runs.
    Joined,
    /// It has its result already.
    Arrived(Batch, Output),
}

impl Flights {
    /// Looks whether the same is running, or has ended since this was queued.
    pub(super) fn board(&self, digest: Digest, mut batch: Batch) -> Boarding {
        let mut flights = self.flights();
        match flights.get_mut(&digest) {
            Some(Flight::Running(followers)) => {
                batch.board();
                followers.push(batch);
                Boarding::Joined
            }
            Some(Flight::Landed(landed))
                if batch.oldest().is_some_and(|queued_at| queued_at <= landed.ended_at) =>
            {
                let output = landed.output.clone();
                Boarding::Arrived(batch, output)
            }
            _ => {
                if let Some(Flight::Landed(_)) = flights.insert(digest, Flight::Running(Vec::new())) {
                    self.n_landed.fetch_sub(1, Ordering::Relaxed);
                }
                Boarding::Leads(batch)
            }
        }
    }

    /// The leader has ended: those who waited beside it. With a result that may be kept, those who are still queued
    /// find it here.
    pub(super) fn land(&self, digest: &Digest, result: Option<Kept>, ended_at: Instant) -> Vec<Batch> {
        let mut flights = self.flights();
        if !matches!(flights.get(digest), Some(Flight::Running(_))) {
            return Vec::new();
        }
        let Some(Flight::Running(followers)) = flights.remove(digest) else { return Vec::new() };
        if let Some(Kept { output, held, wait_max }) = result {
            if self.n_landed.load(Ordering::Relaxed) >= LANDED_MAX {
                flights.retain(|_, flight| matches!(flight, Flight::Running(_)));
                self.n_landed.store(0, Ordering::Relaxed);
            }
            flights.insert(
                *digest,
                Flight::Landed(Landed { output, ended_at, until: ended_at + wait_max, _held: held }),
            );
            self.n_landed.fetch_add(1, Ordering::Relaxed);
        }
        followers
    }

    /// Nothing waits any more that was queued before a result was there.
    pub(super) fn forget_landed(&self) {
        if self.n_landed.load(Ordering::Relaxed) > 0 {
            let mut flights = self.flights();
            flights.retain(|_, flight| matches!(flight, Flight::Running(_)));
            self.n_landed.store(0, Ordering::Relaxed);
        }
    }

    /// Forgets the results that nobody can ask for any more. For the I/O world: it never waits for a worker, and comes
    /// again.
    pub(super) fn forget_old(&self, now: Instant) {
        if self.n_landed.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut flights = match self.flights.try_lock() {
            Ok(flights) => flights,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let is_old = |flight: &Flight| matches!(flight, Flight::Landed(landed) if landed.until <= now);
        let before = flights.len();
        flights.retain(|_, flight| !is_old(flight));
        self.n_landed.fetch_sub(before - flights.len(), Ordering::Relaxed);
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Keeps a result of its own for each number.
    fn land(flights: &Flights, n: u16, wait_max: Duration, ended_at: Instant) {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&n.to_le_bytes());
        flights.flights().insert(digest, Flight::Running(Vec::new()));
        let kept = Kept { output: Output::from(Vec::new()), held: HeldBytes::unbounded(), wait_max };
        assert!(flights.land(&digest, Some(kept), ended_at).is_empty());
    }

    #[test]
    fn results_that_are_kept_are_bounded_and_forgotten() {
        let flights = Flights::default();
        for n in 0..1000 {
            land(&flights, n, SECOND, Instant::now());
            assert!(flights.flights().len() <= LANDED_MAX);
        }
        flights.forget_landed();
        assert!(flights.flights().is_empty());
    }

    #[test]
    fn a_result_is_kept_for_as_long_as_somebody_may_wait_who_was_in_flight_with_it() {
        let (flights, now) = (Flights::default(), Instant::now());
        land(&flights, 1, SECOND, now);
        land(&flights, 2, 2 * SECOND, now);
        flights.flights().insert([9; 32], Flight::Running(Vec::new()));
        for (at, kept) in [(0, 2), (1, 1), (2, 0)] {
            flights.forget_old(now + at * SECOND);
            assert_eq!(flights.flights().len(), kept + 1, "after {at} s, beside the one that runs");
            assert_eq!(flights.n_landed.load(Ordering::Relaxed), kept);
        }
    }
}
