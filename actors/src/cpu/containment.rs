//! Inputs that do harm: whoever retries one must not take the service down.
//!
//! An input that made its operation panic, or run far beyond its estimate and out of time, twice, is refused for a
//! while. Digests are taken only while the list of that operation is not empty, which is nearly never.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::digest::Digest;
use crate::operation::OperationIndex;

/// Offences after which an input is refused. One may be chance.
const STRIKES: u32 = 2;

/// For how long it is refused after the last offence. Then it is let through once more: the operation may have been
/// mended by a reload.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// After which an offence is forgotten.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// Inputs of one operation that are remembered; the oldest offence goes first.
const INPUTS_MAX: usize = 64;

/// The offences of all operations.
pub(super) struct Containment {
    operations: Vec<Offences>,
}

#[derive(Default)]
struct Offences {
    /// Inputs in the list, to be read without the lock.
    n: AtomicUsize,
    /// The latest offence is last.
    list: Mutex<VecDeque<Offence>>,
}

struct Offence {
    digest: Digest,
    strikes: u32,
    last: Instant,
}

impl Containment {
    pub(super) fn new(n_operations: usize) -> Self {
        Self { operations: (0..n_operations).map(|_| Offences::default()).collect() }
    }

    /// Whether any input of this operation has done harm lately.
    pub(super) fn watches(&self, operation: OperationIndex) -> bool {
        self.of(operation).is_some_and(|offences| offences.n.load(Ordering::Relaxed) > 0)
    }

    /// For how long this input is refused from now on, if it is.
    pub(super) fn refuses(
        &self,
        operation: OperationIndex,
        digest: &Digest,
        now: Instant,
    ) -> Option<Duration> {
        let list = self.of(operation)?.list(now);
        let offence = list.iter().find(|offence| offence.digest == *digest && offence.strikes >= STRIKES)?;
        let left = REFUSED_FOR.checked_sub(now.saturating_duration_since(offence.last))?;
        (!left.is_zero()).then_some(left)
    }

    /// This input has done harm.
    pub(super) fn offended(&self, operation: OperationIndex, digest: Digest, now: Instant) {
        let Some(offences) = self.of(operation) else { return };
        let mut list = offences.list(now);
        let before =
            list.iter().position(|offence| offence.digest == digest).and_then(|place| list.remove(place));
        let strikes = before.map_or(0, |offence| offence.strikes) + 1;
        if list.len() >= INPUTS_MAX {
            list.pop_front();
        }
        list.push_back(Offence { digest, strikes, last: now });
        offences.n.store(list.len(), Ordering::Relaxed);
    }

    fn of(&self, operation: OperationIndex) -> Option<&Offences> {
        self.operations.get(usize::from(operation.0))
    }
}

impl Offences {
    /// The list, without what is forgotten.
    fn list(&self, now: Instant) -> MutexGuard<'_, VecDeque<Offence>> {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|offence| now.saturating_duration_since(offence.last) < REMEMBERED_FOR);
        self.n.store(list.len(), Ordering::Relaxed);
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATION: OperationIndex = OperationIndex(0);
    const BAD: Digest = [1; 32];

    #[test]
    fn the_second_offence_is_refused_for_a_while_and_the_next_at_once() {
        let containment = Containment::new(1);
        let now = Instant::now();
        assert!(!containment.watches(OPERATION));
        containment.offended(OPERATION, BAD, now);
        assert!(containment.watches(OPERATION));
        assert_eq!(containment.refuses(OPERATION, &BAD, now), None);
        containment.offended(OPERATION, BAD, now);
        assert_eq!(containment.refuses(OPERATION, &BAD, now), Some(REFUSED_FOR));
        assert_eq!(containment.refuses(OPERATION, &[2; 32], now), None);
        let later = now + REFUSED_FOR;
        assert_eq!(containment.refuses(OPERATION, &BAD, later), None, "it has another chance");
        containment.offended(OPERATION, BAD, later);
        assert_eq!(containment.refuses(OPERATION, &BAD, later), Some(REFUSED_FOR));
    }

    #[test]
    fn offences_are_forgotten_and_bounded() {
        let containment = Containment::new(1);
        let now = Instant::now();
        for n in 0..1000_u16 {
            let mut digest = [0; 32];
            digest[..2].copy_from_slice(&n.to_le_bytes());
            containment.offended(OPERATION, digest, now);
        }
        assert_eq!(containment.operations[0].n.load(Ordering::Relaxed), INPUTS_MAX);
        assert_eq!(containment.refuses(OPERATION, &BAD, now + REMEMBERED_FOR), None);
        assert!(!containment.watches(OPERATION));
    }

    #[test]
    fn an_operation_that_is_not_known_is_not_watched() {
        let containment = Containment::new(0);
        containment.offended(OPERATION, BAD, Instant::now());
        assert!(!containment.watches(OPERATION));
        assert_eq!(containment.refuses(OPERATION, &BAD, Instant::now()), None);
    }
}
