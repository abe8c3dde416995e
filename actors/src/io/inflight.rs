//! The requests of one connection that have no final answer yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::dispatch::StopFlag;

/// Where an unanswered request is.
pub(crate) enum Place {
    /// Its body is arriving, or it is held.
    Here,
    /// In the CPU world.
    There(StopFlag),
}

/// Unanswered requests by id. An id that is taken out is answered, so that no request is answered twice.
#[derive(Default)]
pub(crate) struct Inflight(HashMap<u64, Place>);

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn insert(&mut self, id: u64) {
        self.0.insert(id, Place::Here);
    }

    /// The request has crossed the bridge.
    pub(crate) fn crossed(&mut self, id: u64, stop: StopFlag) {
        if let Entry::Occupied(mut entry) = self.0.entry(id) {
            entry.insert(Place::There(stop));
        }
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Place> {
        self.0.get(&id)
    }

    /// Takes the right to answer.
    #[must_use]
    pub(crate) fn take(&mut self, id: u64) -> bool {
        let taken = self.0.remove(&id).is_some();
        if self.0.is_empty() && self.0.capacity() > 64 {
            self.0 = HashMap::new();
        }
        taken
    }

    /// Takes the right to answer everything, in the order of the ids, and stops what runs.
    pub(crate) fn take_all(&mut self) -> Vec<(u64, Place)> {
        let mut all: Vec<(u64, Place)> = std::mem::take(&mut self.0).into_iter().collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        for (_, place) in &all {
            if let Place::There(stop) = place {
                stop.raise();
            }
        }
        all
    }
}

impl Drop for Inflight {
    /// The safety net for a connection that ends in any other way: nobody waits any more.
    fn drop(&mut self) {
        drop(self.take_all());
    }
}
