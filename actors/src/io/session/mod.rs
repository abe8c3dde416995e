//! What the frames of one connection mean: who is admitted, who is refused, and what is answered.
//!
//! Knows no socket and never waits: the connection feeds it frames and answers, and carries what it says.

mod admitting;
mod answering;
mod frames;
mod known;
mod leaving;
mod turn;

use std::cell::OnceCell;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Instant;

use windlass_protocol::limits::FRAME_BYTES_MIN;

use super::IoWorld;
use super::inflight::Inflight;
use super::outbox::Outbox;
use crate::dispatch::{Client, ClientKey, ReplyBox};

use admitting::Held;
pub(crate) use admitting::Verdict;
pub(crate) use turn::Turn;

/// Room for the head of a Reply in `frame_bytes_max`.
const REPLY_HEAD_BYTES: u64 = 64;

/// Where the conversation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing is understood yet. Next: [`Stage::Open`], [`Stage::Leaving`] or [`Stage::Gone`].
    Hello,
    /// Requests are accepted. Next: any below.
    Open,
    /// The client has said Close; what was accepted is finished. Next: [`Stage::Leaving`] or [`Stage::Gone`].
    Closing,
    /// The daemon has said that it goes; what was accepted is finished, later requests are answered Draining. Next:
    /// any below.
    Draining,
    /// Nothing more is read; what was accepted is finished, then the last GoAway gives this reason. Next:
    /// [`Stage::Gone`].
    Leaving(u16),
    /// The last word is said.
    Gone,
}

/// What was read and written.
#[derive(Default)]
struct Totals {
    requests: u64,
    failures: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// As the replies say it, microseconds.
    queue_micros: u64,
    service_micros: u64,
}

/// One conversation.
pub(crate) struct Session {
    world: Arc<IoWorld>,
    pub(crate) number: u64,
    client_key: ClientKey,
    /// Made with the first request, so that who only listens has none.
    client: OnceCell<Arc<Client>>,
    stage: Stage,
    pub(crate) outbox: Outbox,
    pub(crate) replies: ReplyBox,
    inflight: Inflight,
    held: BinaryHeap<Held>,
    /// Whether what was read holds a secret that has to be wiped.
    pub(crate) secret_read: bool,
    /// Whether the peer has begun with the preface.
    heard_preface: bool,
    said_preface: bool,
    last_id: u64,
    /// Largest output that a Reply can carry to this client, bytes; `limits.body` may allow less.
    output_bytes_max: u64,
    client_frame_bytes_max: u32,
    totals: Totals,
}

impl Drop for Session {
    /// A connection that broke answers nobody any more; what it leaves is counted all the same.
    fn drop(&mut self) {
        let left = self.inflight.take_all();
        for open in &left {
            self.world.metrics.unanswered(open.asked);
        }
        if !left.is_empty() {
            // What they hold is held until a worker comes across them.
            self.world.workers.wake();
        }
    }
}

impl Session {
    pub(crate) fn new(world: Arc<IoWorld>, number: u64, client_key: ClientKey) -> Self {
        Self {
            world,
            number,
            client_key,
            client: OnceCell::new(),
            stage: Stage::Hello,
            outbox: Outbox::default(),
            replies: ReplyBox::default(),
            inflight: Inflight::default(),
            held: BinaryHeap::new(),
            secret_read: false,
            heard_preface: false,
            said_preface: false,
            last_id: 0,
            output_bytes_max: 0,
            client_frame_bytes_max: FRAME_BYTES_MIN,
            totals: Totals::default(),
        }
    }

    /// Whose work its requests are.
    fn client(&self) -> &Arc<Client> {
        self.client.get_or_init(|| self.world.client(self.client_key))
    }

    pub(crate) fn is_greeting(&self) -> bool {
        self.stage == Stage::Hello
    }

    /// Whether nothing more is read.
    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.stage, Stage::Leaving(_) | Stage::Gone)
    }

    /// Whether everything is said.
    pub(crate) fn is_gone(&self) -> bool {
        self.stage == Stage::Gone
    }

    /// Whether every request that was read is answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.inflight.is_empty()
    }

    /// When the next held request is to be released, or one has waited for too long.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        let released_at = self.held.peek().map(|held| held.until);
        [released_at, self.inflight.overdue_at()].into_iter().flatten().min()
    }
}
