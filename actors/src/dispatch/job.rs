//! A request that was admitted, on its way to a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Says that nobody waits for a job any more. The flags of a batch share one word.
#[derive(Clone, Default, Debug)]
pub(crate) struct StopFlag {
    word: Arc<AtomicU32>,
    bit: u8,
}

impl StopFlag {
    pub(crate) fn is_raised(&self) -> bool {
        self.word.load(Ordering::Relaxed) & (1 << self.bit) != 0
    }
}
