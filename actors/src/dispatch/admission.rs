//! Grants or refuses at once, from the header alone; never waits and never touches the CPU pool.
//!
//! Two things are counted. *Slots* bound how many requests are in the house: taken when a request is complete, freed
//! when its work has ended. *Held bytes* bound what inputs and outputs occupy: reserved from the header, freed when
//! the answer is written or cannot be.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use thiserror::Error;

use super::outflow::Outflow;

/// The counters. The limits come with each request from the settings that it is admitted under, so that a reload
/// binds new grants only.
///
/// Slots are freed by workers, bytes by the I/O world: in one cache line they would wait for each other.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    slots: CachePadded<AtomicUsize>,
    held_bytes: CachePadded<AtomicU64>,
    arriving_bytes: AtomicU64,
    /// Of the held bytes.
    freed: Outflow,
    /// Of the arriving bytes.
    arrived: Outflow,
}

/// Why nothing was granted. Every one of them passes by itself.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many requests as may wait and run are here already.
    #[error("{limit} requests wait or run already, the most that queue.capacity and the workers allow")]
    Slots {
        /// The limit in force.
        limit: usize,
    },
    /// Inputs and outputs occupy what they may.
    #[error(
        "{held} bytes of inputs and outputs are held and {asked} more do not fit queue.memory, {limit} bytes"
    )]
    Memory {
        /// Held now, bytes.
        held: u64,
        /// Asked for, bytes.
        asked: u64,
        /// The limit in force, bytes.
        limit: u64,
    },
    /// Bodies that are still arriving occupy what they may.
    #[error(
        "{arriving} bytes of bodies are arriving and {asked} more do not fit half of queue.memory, {limit} bytes"
    )]
    Arrivals {
        /// Arriving now, bytes.
        arriving: u64,
        /// Asked for, bytes.
        asked: u64,
        /// The limit in force, bytes.
        limit: u64,
    },
}

/// How much of what is in use has to be given back for what is asked.
fn missing(used: u64, asked: u64, limit: u64) -> u64 {
    used.saturating_add(asked).saturating_sub(limit)
}

fn try_add(counter: &AtomicU64, by: u64, limit: u64) -> Result<(), u64> {
    counter
        .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| {
            now.checked_add(by).filter(|sum| *sum <= limit)
        })
        .map(drop)
}

impl Admission {
    /// Takes a place among the requests that wait or run.
    ///
    /// # Errors
    ///
    /// [`Refusal::Slots`].
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Result<Slot, Refusal> {
        self.take_slot(limit)?;
        Ok(Slot { admission: Arc::clone(self), n: 1 })
    }

    fn take_slot(&self, limit: usize) -> Result<(), Refusal> {
        self.slots
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |now| (now < limit).then_some(now + 1))
            .map(drop)
            .map_err(|_| Refusal::Slots { limit })
    }

    /// Reserves room for an input that is here already and for its output.
    ///
    /// # Errors
    ///
    /// [`Refusal::Memory`].
    pub(crate) fn hold(self: &Arc<Self>, bytes: u64, limit: u64) -> Result<HeldBytes, Refusal> {
        try_add(&self.held_bytes, bytes, limit).map_err(|held| Refusal::Memory {
            held,
            asked: bytes,
            limit,
        })?;
        Ok(HeldBytes { admission: Some(Arc::clone(self)), bytes, limit, arriving: 0 })
    }

    /// Reserves room for an input that has yet to arrive and for its output. Arriving bodies may hold half of the
    /// limit, so that slow senders leave room for those who are quick.
    ///
    /// # Errors
    ///
    /// [`Refusal::Memory`] or [`Refusal::Arrivals`].
    pub(crate) fn hold_arriving(
        self: &Arc<Self>,
        bytes: u64,
        arriving: u64,
        limit: u64,
    ) -> Result<HeldBytes, Refusal> {
        let mut held = self.hold(bytes, limit)?;
        let limit = limit / 2;
        try_add(&self.arriving_bytes, arriving, limit).map_err(|now| Refusal::Arrivals {
            arriving: now,
            asked: arriving,
            limit,
        })?;
        held.arriving = arriving;
        Ok(held)
    }

    /// After what time there may be room for what was refused, as fast as room is made now. `drains_in` is the time
    /// that the workers need for all that is here.
    pub(crate) fn back_in(&self, refusal: &Refusal, drains_in: Duration, now: Instant) -> Duration {
        match *refusal {
            // One of as many has to end.
            Refusal::Slots { limit } => drains_in / u32::try_from(limit.max(1)).unwrap_or(u32::MAX),
            Refusal::Memory { held, asked, limit } => self.room_in(missing(held, asked, limit), now),
            Refusal::Arrivals { arriving, asked, limit } => {
                self.arrived.time_for(missing(arriving, asked, limit), now)
            }
        }
    }

    /// How long it takes until so many held bytes are given back.
    pub(crate) fn room_in(&self, bytes: u64, now: Instant) -> Duration {
        self.freed.time_for(bytes, now)
    }

    /// Requests that wait or run.
    pub(crate) fn slots(&self) -> usize {
        self.slots.load(Ordering::Relaxed)
    }

    /// Bytes of inputs and outputs held.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }
}

/// Places among the requests that wait or run; freed when dropped, which is when the work has ended. One for each
/// request, and one owner for those of a batch, so that what all threads share is touched once for all of them.
#[derive(Debug)]
pub(crate) struct Slot {
    admission: Arc<Admission>,
    n: usize,
}

impl Slot {
    /// Takes one place more.
    ///
    /// # Errors
    ///
    /// [`Refusal::Slots`].
    pub(crate) fn grow(&mut self, limit: usize) -> Result<(), Refusal> {
        self.admission.take_slot(limit)?;
        self.n += 1;
        Ok(())
    }

    /// Frees `n` places, of which there are as many at least.
    pub(crate) fn free(&mut self, n: usize) {
        debug_assert!(n <= self.n, "no request has two places");
        if n > 0 {
            self.admission.slots.fetch_sub(n, Ordering::AcqRel);
            self.n -= n;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.free(self.n);
    }
}

/// Bytes reserved for an input and its output; freed when dropped, which is when the answer is written or cannot be.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    /// `None` counts nowhere.
    admission: Option<Arc<Admission>>,
    bytes: u64,
    limit: u64,
    arriving: u64,
}

impl HeldBytes {
    /// A reservation that counts nowhere and may grow for ever, for operations that run without a daemon.
    pub(crate) fn unbounded() -> Self {
        Self { admission: None, bytes: 0, limit: u64::MAX, arriving: 0 }
    }

    /// The body has arrived; what it holds no longer counts against arriving bodies.
    pub(crate) fn arrived(&mut self) {
        // The counters are shared by all threads: a store that changes nothing still takes their cache line away.
        if let Some(admission) = self.admission.as_ref().filter(|_| self.arriving > 0) {
            admission.arriving_bytes.fetch_sub(self.arriving, Ordering::AcqRel);
            admission.arrived.add(self.arriving);
        }
        self.arriving = 0;
    }

    /// Grows the reservation to `total` bytes if it is smaller. Never waits.
    ///
    /// # Errors
    ///
    /// [`Refusal::Memory`]; the reservation is then what it was.
    pub(crate) fn try_grow_to(&mut self, total: u64) -> Result<(), Refusal> {
        let Some(more) = total.checked_sub(self.bytes).filter(|more| *more > 0) else { return Ok(()) };
        if let Some(admission) = &self.admission {
            try_add(&admission.held_bytes, more, self.limit).map_err(|held| Refusal::Memory {
                held,
                asked: more,
                limit: self.limit,
            })?;
        }
        self.bytes = total;
        Ok(())
    }

    /// Counts `total` bytes of a body of unknown length as arriving, if those are more than before. Never waits.
    ///
    /// # Errors
    ///
    /// [`Refusal::Arrivals`]; what counts as arriving is then what it was.
    pub(crate) fn try_grow_arriving_to(&mut self, total: u64) -> Result<(), Refusal> {
        let Some(more) = total.checked_sub(self.arriving).filter(|more| *more > 0) else { return Ok(()) };
        if let Some(admission) = &self.admission {
            try_add(&admission.arriving_bytes, more, self.limit / 2)
                .map_err(|arriving| Refusal::Arrivals { arriving, asked: more, limit: self.limit / 2 })?;
        }
        self.arriving = total;
        Ok(())
    }

    /// Shrinks the reservation to what is real.
    pub(crate) fn shrink_to(&mut self, total: u64) {
        let Some(less) = self.bytes.checked_sub(total).filter(|less| *less > 0) else { return };
        if let Some(admission) = &self.admission {
            admission.held_bytes.fetch_sub(less, Ordering::AcqRel);
            admission.freed.add(less);
        }
        self.bytes = total;
    }

    /// Takes over what another reservation of the same counters holds.
    pub(crate) fn absorb(&mut self, mut other: Self) {
        other.arrived();
        self.bytes += other.bytes;
        other.bytes = 0;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.arrived();
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_granted_up_to_the_limit_and_come_back_when_dropped() {
        let admission = Arc::new(Admission::default());
        let first = admission.enter(2).unwrap();
        let second = admission.enter(2).unwrap();
        assert_eq!(admission.enter(2).unwrap_err(), Refusal::Slots { limit: 2 });
        drop(first);
        let third = admission.enter(2).unwrap();
        drop((second, third));
        assert_eq!(admission.slots(), 0);
    }

    #[test]
    fn slots_of_a_batch_come_back_one_after_the_other_and_each_once() {
        let admission = Arc::new(Admission::default());
        let mut slots = admission.enter(3).unwrap();
        slots.grow(3).unwrap();
        slots.grow(3).unwrap();
        assert_eq!(slots.grow(3), Err(Refusal::Slots { limit: 3 }));
        assert_eq!(admission.slots(), 3);
        slots.free(2);
        assert_eq!(admission.slots(), 1);
        drop(slots);
        assert_eq!(admission.slots(), 0);
    }

    #[test]
    fn a_lowered_limit_binds_new_grants_only() {
        let admission = Arc::new(Admission::default());
        let held: Vec<_> = (0..4).map(|_| admission.enter(4).unwrap()).collect();
        assert!(admission.enter(2).is_err());
        drop(held);
        assert!(admission.enter(2).is_ok());
    }

    #[test]
    fn held_bytes_grow_shrink_and_come_back() {
        let admission = Arc::new(Admission::default());
        let mut held = admission.hold(60, 100).unwrap();
        assert!(matches!(admission.hold(41, 100), Err(Refusal::Memory { held: 60, asked: 41, limit: 100 })));
        held.try_grow_to(100).unwrap();
        held.try_grow_to(50).unwrap();
        assert_eq!(held.bytes(), 100);
        assert!(held.try_grow_to(101).is_err());
        assert_eq!(held.bytes(), 100);
        held.shrink_to(10);
        assert_eq!(admission.held_bytes(), 10);
        drop(held);
        assert_eq!(admission.held_bytes(), 0);
    }

    #[test]
    fn who_finds_no_room_is_told_how_long_it_takes_to_make_it() {
        const MIB: u64 = 1 << 20;
        let (admission, start) = (Arc::new(Admission::default()), Instant::now());
        let limit = 64 * MIB;
        let ms = Duration::from_millis;
        let told = |refused: Result<HeldBytes, Refusal>, at| {
            admission.back_in(&refused.unwrap_err(), Duration::ZERO, start + at)
        };
        // Every 100 ms a body of 8 MiB has come and is answered at once, and another begins.
        let mut bodies: std::collections::VecDeque<HeldBytes> =
            (0..4).map(|_| admission.hold_arriving(8 * MIB, 8 * MIB, limit).unwrap()).collect();
        for n in 1..=20 {
            told(admission.hold_arriving(8 * MIB, 8 * MIB, limit), ms(100 * n) - ms(50));
            bodies.pop_front();
            bodies.push_back(admission.hold_arriving(8 * MIB, 8 * MIB, limit).unwrap());
        }
        let arrivals = told(admission.hold_arriving(8 * MIB, 8 * MIB, limit), ms(2000));
        assert!((ms(50)..ms(200)).contains(&arrivals), "{arrivals:?}");
        let held = told(admission.hold(40 * MIB, limit), ms(2000));
        assert!(held < arrivals, "nothing was measured of that: {held:?}");
        assert_eq!(admission.back_in(&Refusal::Slots { limit: 50 }, ms(5000), start), ms(100));
    }

    #[test]
    fn a_reservation_cannot_overflow() {
        let admission = Arc::new(Admission::default());
        let _held = admission.hold(1, u64::MAX).unwrap();
        assert!(admission.hold(u64::MAX, u64::MAX).is_err());
    }

    #[test]
    fn a_body_of_unknown_length_grows_within_half() {
        let admission = Arc::new(Admission::default());
        let mut body = admission.hold_arriving(0, 0, 100).unwrap();
        body.try_grow_to(50).unwrap();
        body.try_grow_arriving_to(50).unwrap();
        assert!(matches!(
            body.try_grow_arriving_to(51),
            Err(Refusal::Arrivals { arriving: 50, asked: 1, .. })
        ));
        body.try_grow_arriving_to(10).unwrap();
        body.arrived();
        drop(admission.hold_arriving(50, 50, 100).unwrap());
        drop(body);
        assert_eq!(admission.held_bytes(), 0);
        assert_eq!(admission.arriving_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn arriving_bodies_hold_at_most_half() {
        let admission = Arc::new(Admission::default());
        let mut slow = admission.hold_arriving(50, 50, 100).unwrap();
        assert!(matches!(admission.hold_arriving(1, 1, 100), Err(Refusal::Arrivals { arriving: 50, .. })));
        assert_eq!(admission.held_bytes(), 50, "a refused arrival holds nothing");
        assert!(admission.hold(50, 100).is_ok());
        slow.arrived();
        drop(admission.hold_arriving(1, 1, 100).unwrap());
        drop(slow);
        assert_eq!(admission.held_bytes(), 0);
        assert_eq!(admission.arriving_bytes.load(Ordering::Relaxed), 0);
    }
}
