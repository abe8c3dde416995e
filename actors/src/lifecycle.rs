//! The phases of the daemon's life, as everybody but the supervisor sees them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::io::Census;
use crate::settings::DrainSettings;
use crate::supervisor::LAST_WORDS;

/// Where the daemon is between start and end. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Ready. Next: [`Phase::Quiet`] or [`Phase::Draining`].
    Serving,
    /// Not ready any more, but serving as before, so that load balancers can notice. Next: [`Phase::Draining`].
    Quiet,
    /// What was accepted is finished, nothing more is accepted. Next: [`Phase::Cancelling`] or the end.
    Draining,
    /// `drain.timeout` passed: running work is stopped and answered. Next: [`Phase::Over`] or the end.
    Cancelling,
    /// `drain.cancel_grace` passed: what still runs is answered for. Next: the end.
    Over,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Serving, Self::Quiet, Self::Draining, Self::Cancelling, Self::Over];

    /// How long it lasts at the most, where that is bounded.
    pub(crate) fn longest(self, drain: &DrainSettings) -> Option<Duration> {
        match self {
            Self::Serving => None,
            Self::Quiet => Some(drain.quiet),
            Self::Draining => Some(drain.timeout),
            Self::Cancelling => Some(drain.cancel_grace),
            Self::Over => Some(LAST_WORDS),
        }
    }

    /// The word that status and logs use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Quiet => "quiet",
            Self::Draining => "draining",
            Self::Cancelling => "cancelling",
            Self::Over => "over",
        }
    }
}

/// The supervisor's end: moves the phase on. With it goes the last phase.
pub(crate) struct Lifecycle {
    // In this order: whoever is called when this is dropped finds the sender gone.
    sender: watch::Sender<Phase>,
    calls: Calls,
}

/// Calls those who wait for a phase in no channel.
struct Calls(Arc<Census>);

impl Drop for Calls {
    fn drop(&mut self) {
        self.0.call();
    }
}

impl Lifecycle {
    pub(crate) fn new(census: Arc<Census>) -> (Self, watch::Receiver<Phase>) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self { sender, calls: Calls(census) }, receiver)
    }

    /// Moves on to a later phase; an earlier one is ignored. To be called on the I/O runtime.
    pub(crate) fn advance(&self, to: Phase) {
        let moved = self.sender.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = (*phase).max(to);
            later
        });
        if moved {
            let census = Arc::clone(&self.calls.0);
            // From a thread of the runtime, so that it has woken all before it turns to the first of them: what is
            // said to one is soon said to all.
            tokio::spawn(async move { census.call() });
        }
    }
}
