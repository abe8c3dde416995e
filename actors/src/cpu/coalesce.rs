//! Identical requests in flight run once, where the operator has asked for it.
//!
//! The first that a worker takes runs, the *leader*; those taken meanwhile wait beside it, and those that are still
//! queued when it ends find its result here. A leader that ends without a result shares nothing: whoever waited
//! beside it goes back into the queue, and the first of them leads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

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
    _held: HeldBytes,
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
                batch.vacate();
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
    pub(super) fn land(
        &self,
        digest: &Digest,
        result: Option<(Output, HeldBytes)>,
        ended_at: Instant,
    ) -> Vec<Batch> {
        let mut flights = self.flights();
        if !matches!(flights.get(digest), Some(Flight::Running(_))) {
            return Vec::new();
        }
        let Some(Flight::Running(followers)) = flights.remove(digest) else { return Vec::new() };
        if let Some((output, held)) = result {
            if self.n_landed.load(Ordering::Relaxed) >= LANDED_MAX {
                flights.retain(|_, flight| matches!(flight, Flight::Running(_)));
                self.n_landed.store(0, Ordering::Relaxed);
            }
            flights.insert(*digest, Flight::Landed(Landed { output, ended_at, _held: held }));
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

    fn flights(&self) -> MutexGuard<'_, HashMap<Digest, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_that_are_kept_are_bounded_and_forgotten() {
        let flights = Flights::default();
        for n in 0..1000_u16 {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&n.to_le_bytes());
            flights.flights().insert(digest, Flight::Running(Vec::new()));
            let result = (Output::from(Vec::new()), HeldBytes::unbounded());
            assert!(flights.land(&digest, Some(result), Instant::now()).is_empty());
            assert!(flights.flights().len() <= LANDED_MAX);
        }
        flights.forget_landed();
        assert!(flights.flights().is_empty());
    }
}
