//! The requests of one connection that have no final answer yet.

use std::collections::VecDeque;

use crate::dispatch::StopFlag;
use crate::telemetry::Asked;

/// Capacity that an idle connection may keep; what a burst needed beyond it is given back.
const KEPT_MAX: usize = 16;

/// Where an unanswered request is.
pub(crate) enum Place {
    /// Its body is arriving, or it is held.
    Here,
    /// In the CPU world.
    There(StopFlag),
}

/// Unanswered requests by id. An id that is taken out is answered, so that no request is answered twice.
///
/// Ids only ever increase, so they stand in order: found by halving, added at the end, and mostly taken from the
/// front.
#[derive(Default)]
pub(crate) struct Inflight(VecDeque<Open>);

/// A request without its final answer.
pub(crate) struct Open {
    pub(crate) id: u64,
    pub(crate) asked: Asked,
    pub(crate) place: Place,
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a request whose id is higher than all before.
    pub(crate) fn insert(&mut self, id: u64, asked: Asked) {
        debug_assert!(self.0.back().is_none_or(|last| last.id < id), "ids increase");
        self.0.push_back(Open { id, asked, place: Place::Here });
    }

    /// The request has crossed the bridge.
    pub(crate) fn crossed(&mut self, id: u64, stop: StopFlag) {
        if let Some(place) = self.find(id) {
            self.0[place].place = Place::There(stop);
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Place> {
        self.find(id).map(|place| &self.0[place].place)
    }

    /// Takes the right to answer; says what was asked for.
    #[must_use]
    pub(crate) fn take(&mut self, id: u64) -> Option<Asked> {
        let taken = self.0.remove(self.find(id)?)?;
        if self.0.is_empty() && self.0.capacity() > KEPT_MAX {
            self.0 = VecDeque::new();
        }
        Some(taken.asked)
    }

    /// Takes the right to answer everything, in the order of the ids, and stops what runs.
    pub(crate) fn take_all(&mut self) -> VecDeque<Open> {
        let all = std::mem::take(&mut self.0);
        for open in &all {
            if let Place::There(stop) = &open.place {
                stop.raise();
            }
        }
        all
    }

    fn find(&self, id: u64) -> Option<usize> {
        // Answers mostly come in the order of the requests, and what crosses the bridge was read last.
        match (self.0.front(), self.0.back()) {
            (Some(first), _) if first.id == id => Some(0),
            (_, Some(last)) if last.id == id => Some(self.0.len() - 1),
            _ => self.0.binary_search_by_key(&id, |open| open.id).ok(),
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

    #[test]
    fn whoever_is_dropped_stops_what_runs() {
        let stop = StopFlag::default();
        let mut inflight = Inflight::default();
        inflight.insert(1, Asked::UNKNOWN);
        inflight.crossed(1, stop.clone());
        assert!(!stop.is_raised());
        drop(inflight);
        assert!(stop.is_raised());
    }
}
