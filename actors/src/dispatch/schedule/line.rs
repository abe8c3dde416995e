//! Batches that need the same, by client, in the order of the clients' turns.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::time::Instant;

use super::cost;
use super::lane::Lane;
use crate::dispatch::ClientKey;
use crate::dispatch::client::Client;
use crate::dispatch::job::{Batch, Class, Need};

/// Clients of a standing queue whose front is looked at for a lost one in one go; bounds the time under the lock.
const LOOK_MAX: usize = 16;

/// Emptied lanes that are kept, with their memory, for the next clients.
const SPARE_MAX: usize = 64;

/// Batches of one need.
pub(super) struct Line {
    pub(super) need: Need,
    /// Since when work that needs less memory has been run although it was this line's turn.
    pub(super) passed_over_since: Option<Instant>,
    class: Class,
    lanes: BTreeMap<ClientKey, Lane>,
    order: BTreeSet<Turn>,
    spare: Vec<Lane>,
    /// The client whose lane was last looked at for lost ones,
    looked_to: Option<ClientKey>,
    /// and for those that nobody waits for.
    swept_to: Option<ClientKey>,
}

/// When a client is next: where its next job would end in virtual time. By the end rather than the start, so that
/// among those who have had the same, the short one goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    end: u64,
    client: ClientKey,
}

impl Line {
    pub(super) fn new(need: Need, class: Class) -> Self {
        let (lanes, order, spare) = Default::default();
        let (looked_to, swept_to) = (None, None);
        Self { need, passed_over_since: None, class, lanes, order, spare, looked_to, swept_to }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    pub(super) fn n_lanes(&self) -> usize {
        self.lanes.len()
    }

    pub(super) fn has(&self, client: &Client) -> bool {
        self.lanes.contains_key(&client.key)
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.change(batch, Lane::push);
    }

    pub(super) fn put_back(&mut self, batch: Batch) {
        self.change(batch, Lane::put_back);
    }

    fn change(&mut self, batch: Batch, add: impl FnOnce(&mut Lane, Batch)) {
        let key = batch.client().key;
        let next = batch.client().next(self.class);
        let spare = &mut self.spare;
        let lane = self.lanes.entry(key).or_insert_with(|| spare.pop().unwrap_or_default());
        add(lane, batch);
        Self::order(&mut self.order, lane, key, next);
    }

    /// Puts a lane where its front belongs.
    fn order(order: &mut BTreeSet<Turn>, lane: &mut Lane, client: ClientKey, next: u64) {
        let cost = lane.front().map_or(0, |front| u64::try_from(cost(front).as_nanos()).unwrap_or(u64::MAX));
        let turn = Turn { end: next.saturating_add(cost), client };
        if lane.turn != Some(turn) {
            if let Some(old) = lane.turn.replace(turn) {
                order.remove(&old);
            }
            order.insert(turn);
        }
    }

    /// The client has had more, or less, than before.
    pub(super) fn reorder(&mut self, client: &Client) {
        if let Some(lane) = self.lanes.get_mut(&client.key) {
            Self::order(&mut self.order, lane, client.key, client.next(self.class));
        }
    }

    pub(super) fn turn(&self) -> Option<Turn> {
        self.order.first().copied()
    }

    /// What [`Line::serve`] or [`Line::discard`] would take.
    pub(super) fn front(&self) -> Option<&Batch> {
        self.lanes.get(&self.order.first()?.client)?.front()
    }

    /// Takes the front to be run.
    pub(super) fn serve(&mut self) -> Option<Batch> {
        self.passed_over_since = None;
        self.take_of(self.order.first()?.client, Lane::serve)
    }

    /// Takes the front to be answered.
    pub(super) fn discard(&mut self) -> Option<Batch> {
        self.take_of(self.order.first()?.client, Lane::discard)
    }

    fn take_of(&mut self, client: ClientKey, take: impl FnOnce(&mut Lane) -> Option<Batch>) -> Option<Batch> {
        let lane = self.lanes.get_mut(&client)?;
        let batch = take(lane)?;
        if lane.is_empty() {
            self.remove(client);
        } else {
            Self::order(&mut self.order, lane, client, batch.client().next(self.class));
        }
        Some(batch)
    }

    /// The oldest lost batch among the first of some clients; of the next ones when it is called again.
    pub(super) fn take_lost(&mut self, now: Instant) -> Option<Batch> {
        let looked = self.next_lanes(self.looked_to).take(LOOK_MAX.min(self.lanes.len()));
        let mut last = None;
        let lost = looked
            .inspect(|(client, _)| last = Some(**client))
            .filter_map(|(client, lane)| Some((lane.oldest_lost(now)?, *client)))
            .min();
        self.looked_to = last;
        self.take_of(lost?.1, |lane| lane.discard_lost(now))
    }

    /// The lanes behind this client's, and round again.
    fn next_lanes(&self, client: Option<ClientKey>) -> impl Iterator<Item = (&ClientKey, &Lane)> {
        let from = client.map_or(Bound::Unbounded, Bound::Excluded);
        self.lanes.range((from, Bound::Unbounded)).chain(&self.lanes)
    }

    /// What nobody waits for any more, lane by lane until `left` batches were looked at; of the next ones when it is
    /// called again.
    pub(super) fn take_abandoned(&mut self, left: &mut usize) -> Vec<Batch> {
        let (mut clients, mut swept_to) = (Vec::new(), self.swept_to);
        for (client, lane) in self.next_lanes(self.swept_to).take(self.lanes.len()) {
            if *left == 0 {
                break;
            }
            *left = left.saturating_sub(lane.len());
            swept_to = Some(*client);
            if lane.has_abandoned() {
                clients.push(*client);
            }
        }
        self.swept_to = swept_to;
        clients.into_iter().flat_map(|client| self.sweep(client)).collect()
    }

    fn sweep(&mut self, client: ClientKey) -> Vec<Batch> {
        let Some(lane) = self.lanes.get_mut(&client) else { return Vec::new() };
        let abandoned = lane.take_abandoned();
        let next = abandoned.first().map(|batch| batch.client().next(self.class));
        if lane.is_empty() {
            self.remove(client);
        } else if let Some(next) = next {
            Self::order(&mut self.order, lane, client, next);
        }
        abandoned
    }

    /// An emptied lane goes, its memory stays for the next client.
    fn remove(&mut self, client: ClientKey) {
        let Some(mut lane) = self.lanes.remove(&client) else { return };
        if let Some(turn) = lane.turn.take() {
            self.order.remove(&turn);
        }
        if self.spare.len() < SPARE_MAX {
            self.spare.push(lane);
        }
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lanes.values().filter_map(Lane::oldest).min()
    }

    pub(super) fn drain(&mut self) -> Vec<Batch> {
        self.order.clear();
        std::mem::take(&mut self.lanes).into_values().flat_map(Lane::into_batches).collect()
    }
}
