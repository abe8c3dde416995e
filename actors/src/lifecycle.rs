//! The phases of the daemon's life, as everybody but the supervisor sees them.

use tokio::sync::watch;

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

/// The supervisor's end: moves the phase on.
pub(crate) struct Lifecycle(watch::Sender<Phase>);

impl Lifecycle {
    pub(crate) fn new() -> (Self, watch::Receiver<Phase>) {
        let (sender, receiver) = watch::channel(Phase::Serving);
        (Self(sender), receiver)
    }

    /// Moves on to a later phase; an earlier one is ignored.
    pub(crate) fn advance(&self, to: Phase) {
        self.0.send_if_modified(|phase| {
            let later = to > *phase;
            *phase = (*phase).max(to);
            later
        });
    }
}
