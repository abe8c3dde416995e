//! The groups of figures, each with daemons of its own.

pub(crate) mod estimates;
pub(crate) mod fairness;
pub(crate) mod goodput;
pub(crate) mod leaving;
pub(crate) mod memory;
mod retry;
pub(crate) mod waste;

use std::time::Duration;

use fastrand::Rng;
use windlass_protocol::client::Request;

use crate::arrivals;
use crate::load::{self, Duty, Lane, Pace};
use crate::numbers::as_f64;
use crate::server::Server;
use crate::trouble::Trouble;

/// How much is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Quick,
    Full,
}

impl Size {
    pub(crate) fn choose<T>(self, quick: T, full: T) -> T {
        match self {
            Self::Quick => quick,
            Self::Full => full,
        }
    }

    pub(crate) fn seconds(self, quick: f64, full: f64) -> Duration {
        Duration::from_secs_f64(self.choose(quick, full))
    }
}

/// The same arrivals in every run.
const SEED: u64 = 4;

/// Connections over which an open loop is dealt out; each may have as many requests in flight as the daemon allows.
const CONNECTIONS: usize = 32;

/// How long after its deadline an answer is still waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What is asked for again and again, with how much of it.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) parameters: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static str,
}

pub(crate) const SPIN_5_MS: Work =
    Work { name: "spin 5 ms", operation: "spin", parameters: &[("for", "5ms")], body: "" };

pub(crate) const ARGON2ID: Work =
    Work { name: "argon2id", operation: "password-hash", parameters: &[], body: "correct horse" };

impl Work {
    pub(crate) fn request(&self, deadline: Duration) -> Request {
        let request = Request::new(self.operation).body(self.body).deadline(deadline);
        self.parameters.iter().fold(request, |request, (name, value)| request.parameter(*name, *value))
    }

    /// A closed loop that keeps every worker busy with little that waits: requests per second that the daemon can do
    /// beside this program.
    pub(crate) async fn capacity(&self, server: &Server, time: Duration) -> Result<f64, Trouble> {
        let lane = || Lane {
            tag: "capacity",
            request: self.request(Duration::from_secs(10)),
            pace: Pace::closed(4),
        };
        let duty = Duty { time, linger: GRACE };
        let samples = load::run(server.address(), vec![lane(), lane()], duty).await?;
        let done = samples.iter().filter(|sample| sample.is_done() && sample.ended <= time).count();
        Ok(as_f64(done.max(1)) / time.as_secs_f64())
    }

    /// An open loop of independent requests, dealt out over some connections.
    pub(crate) fn offered(&self, per_second: f64, time: Duration, deadline: Duration) -> Vec<Lane> {
        self.offered_over(CONNECTIONS, per_second, time, deadline)
    }

    /// The same over so many connections.
    pub(crate) fn offered_over(
        &self,
        connections: usize,
        per_second: f64,
        time: Duration,
        deadline: Duration,
    ) -> Vec<Lane> {
        let all = arrivals::poisson(per_second, time, &mut Rng::with_seed(SEED));
        let lane =
            |arrivals| Lane { tag: "offered", request: self.request(deadline), pace: Pace::Open(arrivals) };
        arrivals::deal(&all, connections).into_iter().map(lane).collect()
    }
}
