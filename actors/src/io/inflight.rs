//! The requests of one connection that have no final answer yet.

use std::collections::VecDeque;
use std::time::Instant;

use crate::dispatch::{Failure, Prospect, StopFlag};
use crate::settings::Settings;
use crate::telemetry::Asked;

/// Where an unanswered request is.
pub(crate) enum Place {
    /// Its body is arriving, or it is held.
    Here,
    /// In the CPU world.
    There(Crossed),
}

/// A request that waits for a worker, or is with one.
pub(crate) struct Crossed {
    pub(crate) stop: StopFlag,
    pub(crate) queued_at: Instant,
    pub(crate) deadline: Instant,
    /// When to ask whether it has waited for too long; `None` once a worker was found to have started it.
    pub(crate) overdue_at: Option<Instant>,
}

impl Crossed {
    /// The same request, as if it asked anew.
    pub(super) fn prospect<'a>(&'a self, settings: &'a Settings, now: Instant) -> Option<Prospect<'a>> {
        let allowed = self.deadline.saturating_duration_since(self.queued_at);
        self.stop.prospect(settings, allowed, now)
    }

    /// The answer to a request that is overdue, unless a worker has started it; from now on none will. While its work
    /// is done by the run of another request only the deadline counts.
    pub(crate) fn overdue(&mut self, now: Instant) -> Option<Failure> {
        if now < self.deadline && self.stop.is_boarded() {
            self.overdue_at = Some(self.deadline);
            return None;
        }
        self.overdue_at = None;
        let waited = now.saturating_duration_since(self.queued_at);
        self.stop.withdraw().then(|| match self.deadline <= now {
            true => Failure::expired(waited),
            false => Failure::waited_too_long(waited),
        })
    }
}

/// Unanswered requests by id. An id that is taken out is answered, so that no request is answered twice.
///
/// Ids only ever increase, so they stand in order: found by halving, added at the end, and mostly taken from the
/// front.
#[derive(Default)]
pub(crate) struct Inflight {
    open: VecDeque<Open>,
    /// Not later than the first of them is overdue.
    overdue_at: Option<Instant>,
}

/// Places that are made at once when a second request comes before the first is answered.
const GROWTH: usize = 31;

/// A request without its final answer.
pub(crate) struct Open {
    pub(crate) id: u64,
    pub(crate) asked: Asked,
    pub(crate) place: Place,
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Adds a request whose id is higher than all before.
    pub(crate) fn insert(&mut self, id: u64, asked: Asked) {
        debug_assert!(self.open.back().is_none_or(|last| last.id < id), "ids increase");
        if self.open.len() == self.open.capacity() {
            // One, as clients have that take turns, or probably many.
            self.open.reserve_exact(if self.open.is_empty() { 1 } else { GROWTH.max(self.open.len()) });
        }
        self.open.push_back(Open { id, asked, place: Place::Here });
    }

    /// The request has crossed the bridge.
    pub(crate) fn crossed(&mut self, id: u64, crossed: Crossed) {
        if let Some(place) = self.find(id) {
            self.overdue_at = [self.overdue_at, crossed.overdue_at].into_iter().flatten().min();
            self.open[place].place = Place::There(crossed);
        }
    }

    /// When somebody may have waited for too long, or `None`.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        self.overdue_at
    }

    /// Takes the right to answer those that have waited for too long and will certainly not be started.
    pub(crate) fn take_overdue(&mut self, now: Instant) -> Vec<(Open, Failure)> {
        let mut overdue = Vec::new();
        for open in &mut self.open {
            let Place::There(crossed) = &mut open.place else { continue };
            if crossed.overdue_at.is_some_and(|at| at <= now) {
                overdue.extend(crossed.overdue(now).map(|failure| (open.id, failure)));
            }
        }
        self.overdue_at = self.open.iter().filter_map(Open::overdue_at).min();
        let taken = overdue.into_iter().filter_map(|(id, failure)| {
            let open = self.remove(self.find(id)?)?;
            Some((open, failure))
        });
        taken.collect()
    }

    fn remove(&mut self, place: usize) -> Option<Open> {
        let taken = if place == 0 { self.open.pop_front() } else { self.open.remove(place) };
        if self.open.is_empty() {
            self.overdue_at = None;
            // A connection that waits for nothing keeps no memory for what it may wait for one day.
            self.open = VecDeque::new();
        }
        taken
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Place> {
        self.find(id).map(|place| &self.open[place].place)
    }

    /// Takes the right to answer; says what was asked for.
    #[must_use]
    pub(crate) fn take(&mut self, id: u64) -> Option<Asked> {
        self.remove(self.find(id)?).map(|open| open.asked)
    }

    /// Takes the right to answer everything, in the order of the ids, and stops what runs.
    pub(crate) fn take_all(&mut self) -> VecDeque<Open> {
        self.overdue_at = None;
        let all = std::mem::take(&mut self.open);
        for open in &all {
            if let Place::There(crossed) = &open.place {
                crossed.stop.raise();
            }
        }
        all
    }

    fn find(&self, id: u64) -> Option<usize> {
        // Answers mostly come in the order of the requests, and what crosses the bridge was read last.
        match (self.open.front(), self.open.back()) {
            (Some(first), _) if first.id == id => Some(0),
            (_, Some(last)) if last.id == id => Some(self.open.len() - 1),
            _ => self.open.binary_search_by_key(&id, |open| open.id).ok(),
        }
    }
}

impl Open {
    fn overdue_at(&self) -> Option<Instant> {
        match &self.place {
            Place::Here => None,
            Place::There(crossed) => crossed.overdue_at,
        }
    }
}

impl Drop for Inflight {
    /// The safety net for a connection that ends in any other way: nobody waits any more.
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_once_wherever_it_stands() {
        let mut inflight = Inflight::default();
        [2, 3, 5, 8, 13].into_iter().for_each(|id| inflight.insert(id, Asked::UNKNOWN));
        for id in [5, 2, 13, 8, 3] {
            assert!(inflight.get(id).is_some());
            assert!(inflight.take(id).is_some());
            assert!(inflight.take(id).is_none());
        }
        assert!(inflight.take(4).is_none());
        assert!(inflight.is_empty());
    }

    fn waiting(stop: StopFlag, overdue_at: Instant) -> Crossed {
        Crossed { stop, queued_at: overdue_at, deadline: overdue_at, overdue_at: Some(overdue_at) }
    }

    #[test]
    fn what_is_overdue_and_not_started_is_taken_and_will_never_start() {
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(60);
        let stops: [StopFlag; 3] = Default::default();
        let mut inflight = Inflight::default();
        for (id, (stop, at)) in stops.iter().zip([now, now, later]).enumerate() {
            inflight.insert(id as u64, Asked::UNKNOWN);
            inflight.crossed(id as u64, waiting(stop.clone(), at));
        }
        assert!(stops[1].start(), "a worker was quicker");
        let taken: Vec<u64> = inflight.take_overdue(now).iter().map(|(open, ..)| open.id).collect();
        assert_eq!(taken, [0]);
        assert!(!stops[0].start(), "what was answered is not started");
        assert!(!stops[1].is_raised(), "what runs goes on");
        assert_eq!(inflight.overdue_at(), Some(later));
        assert_eq!(inflight.len(), 2);
    }

    #[test]
    fn who_waits_beside_the_run_of_another_is_overdue_at_its_deadline_alone() {
        let now = Instant::now();
        let deadline = now + std::time::Duration::from_secs(60);
        let stop = StopFlag::default();
        stop.board();
        let mut inflight = Inflight::default();
        inflight.insert(1, Asked::UNKNOWN);
        inflight.crossed(1, Crossed { deadline, ..waiting(stop.clone(), now) });
        assert!(inflight.take_overdue(now).is_empty());
        assert_eq!(inflight.overdue_at(), Some(deadline));
        let (_, failure) = inflight.take_overdue(deadline).pop().expect("it is overdue");
        assert_eq!(failure.code, windlass_protocol::FailureCode::DEADLINE_EXCEEDED);
        assert!(!stop.start());
    }

    #[test]
    fn whoever_is_dropped_stops_what_runs() {
        let stop = StopFlag::default();
        let mut inflight = Inflight::default();
        inflight.insert(1, Asked::UNKNOWN);
        inflight.crossed(1, waiting(stop.clone(), Instant::now()));
        assert!(!stop.is_raised());
        drop(inflight);
        assert!(stop.is_raised());
    }
}
