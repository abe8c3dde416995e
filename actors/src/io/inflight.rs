//! The requests of one connection that have no final answer yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::dispatch::StopFlag;
use crate::telemetry::Asked;

/// Where an unanswered request is.
pub(crate) enum Place {
    /// Its body is arriving, or it is held.
    Here,
    /// In the CPU world.
    There(StopFlag),
}

/// Unanswered requests by id. An id that is taken out is answered, so that no request is answered twice.
#[derive(Default)]
pub(crate) struct Inflight(HashMap<u64, Open>);

/// A request without its final answer.
struct Open {
    asked: Asked,
    place: Place,
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, id: u64, asked: Asked) {
        self.0.insert(id, Open { asked, place: Place::Here });
    }

    /// The request has crossed the bridge.
    pub(crate) fn crossed(&mut self, id: u64, stop: StopFlag) {
        if let Entry::Occupied(mut entry) = self.0.entry(id) {
            entry.get_mut().place = Place::There(stop);
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Place> {
        self.0.get(&id).map(|open| &open.place)
    }

    /// Takes the right to answer; says what was asked for.
    #[must_use]
    pub(crate) fn take(&mut self, id: u64) -> Option<Asked> {
        let taken = self.0.remove(&id).map(|open| open.asked);
        if self.0.is_empty() && self.0.capacity() > 64 {
            self.0 = HashMap::new();
        }
        taken
    }

    /// Takes the right to answer everything, and stops what runs.
    pub(crate) fn take_all(&mut self) -> Vec<(u64, Asked)> {
        let mut taken: Vec<(u64, Asked)> = std::mem::take(&mut self.0)
            .into_iter()
            .map(|(id, open)| {
                if let Place::There(stop) = open.place {
                    stop.raise();
                }
                (id, open.asked)
            })
            .collect();
        taken.sort_unstable_by_key(|(id, _)| *id);
        taken
    }
}

impl Drop for Inflight {
    /// The safety net for a connection that ends in any other way: nobody waits any more.
    fn drop(&mut self) {
        drop(self.take_all());
    }
}
