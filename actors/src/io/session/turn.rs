//! What one read delivered is taken apart in one turn: under one snapshot, at one time, and counted together.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::Guard;

use super::Session;
use super::known::Known;
use crate::dispatch::{Batch, Class, PendingReplies};
use crate::settings::Settings;
use crate::telemetry::{Asked, add};

/// Catalogues and statuses made in one turn of a connection: some 50 µs each, in a world that must not compute.
const INFOS_MAX: u8 = 16;

/// One turn of a connection.
pub(crate) struct Turn {
    /// In force for all requests of the turn.
    pub(super) settings: Guard<Arc<Settings>>,
    /// When its bytes were read.
    pub(crate) now: Instant,
    pub(super) filling: Filling,
    pub(super) n_infos: u8,
    pub(super) known: Known,
    /// Requests read, not in the metrics yet.
    pub(super) read: Row,
    pub(super) bytes_in: u64,
}

/// What was not sent over the bridge yet.
#[derive(Default)]
pub(super) struct Filling {
    /// The requests that will cross it together, and where their answers will come.
    pub(super) batch: Option<(Batch, PendingReplies)>,
    /// Of the request before, if nothing was sent since and it is the one that is known.
    pub(super) decided: Option<Decided>,
}

/// What was decided of a request from its head, the time of its turn and what waited then, and so for the next one that
/// asks for the same on the same terms.
#[derive(Clone, Copy)]
pub(super) struct Decided {
    pub(super) class: Class,
    pub(super) deadline: Instant,
    pub(super) held_bytes: u64,
}

impl Turn {
    /// Whether the peer has to take some of its answers before more is done for it.
    pub(crate) fn is_congested(&self, session: &Session) -> bool {
        session.outbox.bytes() as u64 > self.settings.limits.unwritten_bytes_max
    }

    /// Whether enough was made in the I/O world for one turn; other connections come first.
    pub(crate) fn is_over(&self) -> bool {
        self.n_infos >= INFOS_MAX
    }
}

/// Requests for one operation in a row: what is read and answered together is mostly of one kind, and counted at once.
#[derive(Default)]
pub(super) struct Row {
    asked: Option<Asked>,
    n: u64,
}

impl Row {
    /// Adds a request; gives back the row before it if that was of another kind.
    pub(super) fn add(&mut self, asked: Asked) -> Option<(Asked, u64)> {
        let before = if self.asked == Some(asked) { None } else { self.end() };
        self.asked = Some(asked);
        self.n += 1;
        before
    }

    /// Ends the row.
    pub(super) fn end(&mut self) -> Option<(Asked, u64)> {
        let asked = self.asked.take()?;
        Some((asked, std::mem::take(&mut self.n)))
    }
}

impl Session {
    /// What one read delivered is about to be taken apart.
    pub(crate) fn begin_turn(&self, now: Instant) -> Turn {
        let settings = self.world.settings.load();
        Turn {
            known: Known::of_thread(&settings),
            settings,
            now,
            filling: Filling::default(),
            n_infos: 0,
            read: Row::default(),
            bytes_in: 0,
        }
    }

    /// It is taken apart: sends what is complete over the bridge.
    pub(crate) fn end_turn(&mut self, mut turn: Turn) {
        self.settle(&mut turn);
        turn.known.keep();
        self.submit(&mut turn.filling);
    }

    /// Puts what was read so far into the metrics.
    pub(super) fn settle(&self, turn: &mut Turn) {
        if let Some((asked, n)) = turn.read.end() {
            self.world.metrics.requests_read(asked, n);
        }
        if turn.bytes_in > 0 {
            add(&self.world.metrics.bytes_in, std::mem::take(&mut turn.bytes_in));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::OperationIndex;

    #[test]
    fn every_request_of_a_row_is_counted_once() {
        let [one, other] = [3, 7].map(|index| Asked::from(OperationIndex(index)));
        let mut row = Row::default();
        let mut counted: Vec<_> = [one, one, other, other, other, one].map(|asked| row.add(asked)).into();
        counted.push(row.end());
        counted.push(row.end());
        let counted: Vec<_> = counted.into_iter().flatten().collect();
        assert_eq!(counted, [(one, 2), (other, 3), (one, 1)]);
    }
}
