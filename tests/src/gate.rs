//! Work that is in progress for as long as a test wants it to be.

use serde_json::Value;
use windlass_protocol::FailureCode;

use crate::raw::{self, Raw};
use crate::{Daemon, eventually};

/// Longest that a gate can be held, milliseconds.
const DEADLINE_MS: u64 = 600_000;

/// A `spin`, or something else that takes long, on every worker of a daemon, from a connection of its own. Dropping it
/// frees the workers too, at the latest when they notice that the connection has ended.
pub struct Gate {
    connection: Raw,
    jobs: u64,
}

impl Gate {
    /// Returns when each worker of the daemon runs a `spin` that will not end by itself before the test has given up.
    /// The daemon knows how long that takes, and refuses who cannot wait for so long.
    #[track_caller]
    pub fn hold(daemon: &Daemon) -> Self {
        Self::hold_by(daemon, "spin", "60s")
    }

    /// The same of a daemon with faults, which does not foresee it.
    #[track_caller]
    pub fn hold_unforeseen(daemon: &Daemon) -> Self {
        Self::hold_by(daemon, "fault-slow", "1h")
    }

    #[track_caller]
    fn hold_by(daemon: &Daemon, operation: &str, time: &str) -> Self {
        let mut connection = Raw::open(daemon.host_port());
        let jobs = workers(&raw::status(&mut connection)).len() as u64;
        // One after the other: what comes together and says that it is short has one worker.
        for id in 1..=jobs {
            connection.send(&raw::work_within(id, operation, &[("for", time)], Some(DEADLINE_MS), b""));
            eventually("another worker runs it", || {
                let status = raw::status(&mut connection);
                let runs = |worker: &&Value| worker["running"]["operation"] == operation;
                (workers(&status).iter().filter(runs).count() as u64 == id).then_some(())
            });
        }
        Self { connection, jobs }
    }

    /// How many workers it occupies.
    pub fn jobs(&self) -> u64 {
        self.jobs
    }

    /// The connection that holds it.
    pub fn connection(&mut self) -> &mut Raw {
        &mut self.connection
    }

    /// Cancels what it runs and reads the answers.
    #[track_caller]
    pub fn release(mut self) {
        for id in 1..=self.jobs {
            self.connection.send(&raw::cancel(id));
        }
        for _ in 1..=self.jobs {
            let answer = eventually("a spin is answered", || {
                Some(self.connection.frame().expect("an answer")).filter(|frame| frame.id > 0)
            });
            let (code, message, _) = answer.failure().expect("a Failure");
            assert_eq!(code, FailureCode::CANCELLED, "{message}");
        }
    }
}

/// The workers in a status.
#[track_caller]
pub fn workers(status: &Value) -> &[Value] {
    status["workers"].as_array().unwrap()
}
