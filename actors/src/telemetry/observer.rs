//! The window to look in by. Works from any thread, takes nothing from whoever works, and never waits for them.

use std::sync::Arc;

use serde_json::Value;

use super::snapshot::Snapshot;
use super::status::status;
use crate::io::IoWorld;
use crate::lifecycle::Phase;

/// Looks at a daemon from any thread. Cheap to clone; keeps nothing running.
#[derive(Clone)]
pub struct Observer(Arc<IoWorld>);

impl Observer {
    pub(crate) fn new(world: Arc<IoWorld>) -> Self {
        Self(world)
    }

    /// All numbers of this moment.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.0)
    }

    /// The same that a Query for the status answers.
    pub fn status(&self) -> Value {
        status(&self.snapshot())
    }

    /// Where the daemon is between start and end.
    pub fn phase(&self) -> Phase {
        *self.0.phase.borrow()
    }

    /// Whether new work is welcome: false from the first moment of a drain, its quiet part included.
    pub fn is_ready(&self) -> bool {
        self.phase() == Phase::Serving
    }
}
