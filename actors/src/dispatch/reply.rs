//! Answers on their way back: one oneshot for each batch.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream};
use tokio::sync::oneshot;

use super::few::Few;
use super::job::Batch;
use super::{Failure, HeldBytes};
use crate::operation::Output;

/// The final answer to one request.
pub(crate) struct Answer {
    pub(crate) id: u64,
    pub(crate) outcome: Result<Output, Failure>,
    /// From the bridge to a worker.
    pub(crate) queue_time: Duration,
    /// On the worker.
    pub(crate) service_time: Duration,
    /// What the output occupies until it is written, and what was reserved beyond it. Whoever writes it shrinks it:
    /// all that a batch frees is then freed by one thread.
    pub(crate) held: HeldBytes,
}

impl Answer {
    /// A failure of a job that no worker ran.
    pub(crate) fn failed(id: u64, failure: Failure, mut held: HeldBytes) -> Self {
        held.shrink_to(0);
        Self { id, outcome: Err(failure), queue_time: Duration::ZERO, service_time: Duration::ZERO, held }
    }
}

/// Answers that have come together, in the order in which they were given.
pub(crate) enum Answers {
    /// Of a batch, in the memory that their jobs came in.
    All(Batch),
    /// Of a part of one, or of one that came to a bad end. Seldom, and so not worth room in every reply.
    Some(Box<Few<Answer>>),
}

impl Answers {
    fn few(&self) -> &Few<Answer> {
        match self {
            Self::All(batch) => batch.answers(),
            Self::Some(answers) => answers,
        }
    }

    /// Those that are not taken yet.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Answer> {
        self.few().iter()
    }
}

impl Iterator for Answers {
    type Item = Answer;

    fn next(&mut self) -> Option<Answer> {
        match self {
            Self::All(batch) => batch.next_answer(),
            Self::Some(answers) => answers.pop(),
        }
    }
}

/// The answers of a batch, or of the part of it that is done.
pub(crate) struct Replies {
    pub(super) answers: Answers,
    /// Where those that are left will come.
    pub(super) rest: Option<PendingReplies>,
}

/// The worker's end.
pub(crate) struct ReplySender(oneshot::Sender<Replies>);

/// The connection's end.
pub(crate) struct PendingReplies(oneshot::Receiver<Replies>);

pub(crate) fn reply_channel() -> (ReplySender, PendingReplies) {
    let (sender, receiver) = oneshot::channel();
    (ReplySender(sender), PendingReplies(receiver))
}

impl ReplySender {
    /// Sends; a connection that has gone away frees what the answers hold.
    pub(super) fn send(self, replies: Replies) {
        drop(self.0.send(replies));
    }
}

impl Replies {
    /// The answer of a batch of one job.
    pub(crate) fn into_only(mut self) -> Option<Answer> {
        debug_assert!(self.answers.few().len() == 1 && self.rest.is_none(), "the batch has one job");
        self.answers.next()
    }
}

#[cfg(test)]
impl PendingReplies {
    /// Whether the replies are here.
    pub(super) fn has_come(&mut self) -> bool {
        self.0.try_recv().is_ok()
    }
}

impl Future for PendingReplies {
    type Output = Option<Replies>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Replies>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

/// Every reply that one connection waits for. Holds no memory while it waits for none, and allocates none for the one
/// that a client which takes turns waits for.
#[derive(Default)]
pub(crate) enum ReplyBox {
    /// Next: [`ReplyBox::One`].
    #[default]
    Empty,
    /// Next: [`ReplyBox::Empty`] or [`ReplyBox::Many`].
    One(PendingReplies),
    /// Next: [`ReplyBox::Empty`].
    Many(FuturesUnordered<PendingReplies>),
}

impl ReplyBox {
    pub(crate) fn expect(&mut self, pending: PendingReplies) {
        *self = match std::mem::take(self) {
            Self::Empty => Self::One(pending),
            Self::One(first) => Self::Many([first, pending].into_iter().collect()),
            Self::Many(waiting) => {
                waiting.push(pending);
                Self::Many(waiting)
            }
        };
    }

    /// The next answers, in the order in which workers give them. Pending while none is ready, and when none is
    /// awaited.
    pub(crate) fn poll_answers(&mut self, context: &mut Context<'_>) -> Poll<Answers> {
        loop {
            let replies = match self {
                Self::Empty => return Poll::Pending,
                Self::One(pending) => {
                    let replies = ready!(Pin::new(pending).poll(context));
                    *self = Self::Empty;
                    replies
                }
                Self::Many(waiting) => match ready!(Pin::new(waiting).poll_next(context)) {
                    Some(replies) => replies,
                    None => {
                        *self = Self::Empty;
                        return Poll::Pending;
                    }
                },
            };
            // A batch always answers, if only when it is dropped.
            debug_assert!(replies.is_some(), "a batch was forgotten");
            if let Some(Replies { answers, rest }) = replies {
                if let Some(rest) = rest {
                    self.expect(rest);
                }
                return Poll::Ready(answers);
            }
        }
    }
}
