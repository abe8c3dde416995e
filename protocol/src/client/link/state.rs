//! What waits on a connection, and what the daemon's frames do to it.

use std::collections::BTreeMap;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::client::error::CallError;
use crate::client::outgoing::{Outgoing, epoch_micros};
use crate::client::question::Answer;
use crate::client::request::Totals;

pub(super) struct State {
    pub(super) phase: Phase,
    pub(super) id_next: u64,
    /// Requests above this id were never given to the socket.
    pub(super) id_sent: u64,
    pub(super) opened_at: u64,
    pub(super) pending: BTreeMap<u64, Pending>,
    pub(super) closing: Option<oneshot::Sender<Result<Totals, CallError>>>,
    pub(super) outgoing: Outgoing,
    /// Why the daemon said that it would end the connection.
    pub(super) broken: Option<CallError>,
}

#[derive(PartialEq, Eq, Clone, Copy)]
pub(super) enum Phase {
    /// Next: `Leaving`, `Ended`.
    Open,
    /// Nothing new is sent; answers still come. Next: `Ended`.
    Leaving,
    Ended,
}

pub(super) struct Pending {
    /// `None` once the caller has left.
    pub(super) answer: Option<oneshot::Sender<Result<Answer, CallError>>>,
    /// A request has one, a Ping or Query none.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Open,
            id_next: 1,
            id_sent: 0,
            opened_at: epoch_micros(),
            pending: BTreeMap::new(),
            closing: None,
            outgoing: Outgoing::default(),
            broken: None,
        }
    }

    /// Gives `id` its answer; one that nobody waits for any more is dropped.
    pub(super) fn conclude(
        &mut self,
        id: u64,
        answer: impl FnOnce() -> Result<Answer, CallError>,
    ) -> Result<(), String> {
        if id >= self.id_next {
            return Err(format!("an answer to id {id}, which was never used"));
        }
        if let Some(sender) = self.pending.remove(&id).and_then(|pending| pending.answer) {
            drop(sender.send(answer()));
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        if self.phase == Phase::Open {
            self.phase = Phase::Leaving;
        }
    }

    /// Requests above `last_id` were never accepted. Pings and Queries are not requests; they wait for the end.
    pub(super) fn go_away(&mut self, last_id: u64) {
        self.leave();
        let Some(first) = last_id.checked_add(1) else { return };
        let (requests, others) =
            self.pending.split_off(&first).into_iter().partition(|(_, pending)| pending.place.is_some());
        let (requests, mut others): (BTreeMap<_, _>, BTreeMap<_, _>) = (requests, others);
        self.pending.append(&mut others);
        for answer in requests.into_values().filter_map(|pending| pending.answer) {
            drop(answer.send(Err(CallError::draining("the daemon left before it read the request"))));
        }
    }
}
