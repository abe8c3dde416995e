//! The crossing: what one read of a connection delivered goes over in one message. The only file that names flume.
//!
//! The I/O world uses `try_send` and never waits; the CPU world uses `try_recv` and is woken through the pool, so
//! that neither side ever blocks in the channel.

use super::job::Batch;

#[cfg(windlass_loom)]
use shim as flume;

/// Both ends of the channel, which therefore never closes: the drain empties it instead.
pub(crate) struct Intake {
    sender: flume::Sender<Batch>,
    receiver: flume::Receiver<Batch>,
}

impl Intake {
    /// An intake without a bound of its own: a batch has at least one job, every job has a slot, and the slots are
    /// bounded by settings that a reload may change.
    pub(crate) fn new() -> Self {
        let (sender, receiver) = flume::unbounded();
        Self { sender, receiver }
    }

    #[allow(
        clippy::result_large_err,
        reason = "the batch is given back whole, and only when something is wrong"
    )]
    /// Hands a batch over, or gives it back should the channel not take it, which as it stands it always does.
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

/// As much of flume as is used here, on primitives that loom can see.
#[cfg(windlass_loom)]
mod shim {
    use std::collections::VecDeque;
    use std::sync::Arc;

    use crate::sync::Mutex;

    type Queue<T> = Arc<Mutex<VecDeque<T>>>;

    pub(super) struct Sender<T>(Queue<T>);
    pub(super) struct Receiver<T>(Queue<T>);
    pub(super) struct TrySendError<T>(T);

    pub(super) fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
        let queue = Arc::new(Mutex::new(VecDeque::new()));
        (Sender(Arc::clone(&queue)), Receiver(queue))
    }

    impl<T> Sender<T> {
        pub(super) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            self.0.lock().expect("nothing panics under this lock").push_back(message);
            Ok(())
        }
    }

    impl<T> Receiver<T> {
        pub(super) fn is_empty(&self) -> bool {
            self.0.lock().expect("nothing panics under this lock").is_empty()
        }

        pub(super) fn try_recv(&self) -> Result<T, ()> {
            self.0.lock().expect("nothing panics under this lock").pop_front().ok_or(())
        }
    }

    impl<T> TrySendError<T> {
        pub(super) fn into_inner(self) -> T {
            self.0
        }
    }
}
