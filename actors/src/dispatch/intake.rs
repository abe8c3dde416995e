//! The crossing: what one read of a connection delivered goes over in one message. The only file that names flume.
//!
//! The I/O world uses `try_send` and never waits; the CPU world uses `try_recv` and is woken through the pool, so
//! that neither side ever blocks in the channel.

use super::job::Batch;

/// Both ends of the channel, which therefore never closes: the drain empties it instead.
pub(crate) struct Intake {
    sender: flume::Sender<Batch>,
    receiver: flume::Receiver<Batch>,
}

impl Intake {
    /// An intake for `capacity` batches. A batch has at least one job and every job has a slot, so a capacity of as
    /// many batches as there are slots is never exceeded.
    pub(crate) fn new(capacity: usize) -> Self {
        let (sender, receiver) = flume::bounded(capacity);
        Self { sender, receiver }
    }

    #[allow(
        clippy::result_large_err,
        reason = "the batch is given back whole, and only when something is wrong"
    )]
    /// Hands a batch over, or gives it back when there is no room.
    pub(crate) fn try_send(&self, batch: Batch) -> Result<(), Batch> {
        self.sender.try_send(batch).map_err(flume::TrySendError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// The batch that came first, if any.
    pub(crate) fn try_take(&self) -> Option<Batch> {
        self.receiver.try_recv().ok()
    }
}
