//! What is asked and what comes back.

use std::time::Duration;

use bytes::Bytes;

use super::address::Address;
use super::error::CallError;
use crate::frame::PREFIX_BYTES;
use crate::limits::{HEADER_BYTES_MAX, NAME_BYTES_MAX, PARAMETERS_MAX, VALUE_BYTES_MAX};
use crate::message::{PRIORITY_BATCH, PRIORITY_INTERACTIVE};

/// Most bytes that a Work header takes beside names and values: two counts and one length of 1, three optional
/// numbers of at most 10, the priority.
const HEADER_FIXED_BYTES_MAX: usize = 3 + 3 * 10 + 1;

/// Most bytes that the lengths of a parameter's name (below 251) and value (below 65,536) take.
const LENGTHS_BYTES_MAX: usize = 1 + 3;

/// One request. Cloning it does not copy the body.
#[derive(Debug, Clone)]
pub struct Request {
    /// Name of the operation.
    pub operation: String,
    /// Names and values; a name at most once.
    pub parameters: Vec<(String, String)>,
    /// The operation's input.
    pub body: Bytes,
    /// How long the answer is wanted, counted from the call, attempts and waits included. `None` takes the
    /// daemon's default.
    pub deadline: Option<Duration>,
    /// Who waits for it.
    pub priority: Priority,
    /// When it may be sent again.
    pub retry: Retry,
}

/// Which of two classes a request is scheduled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// It may wait behind interactive requests.
    Batch,
}

/// When a failed request may be sent again, within [`Options::attempts_max`](super::Options::attempts_max),
/// [`Options::retry_budget`](super::Options::retry_budget) and its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// Never. Another address is still gone to where no connection could be made: nothing was sent then.
    Never,
    /// When the operation certainly was not started.
    #[default]
    Safe,
    /// Also when the daemon went away under it and nobody knows: running it twice does no harm.
    Pure,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The operation's output.
    pub body: Bytes,
    /// From admission until a worker took the request.
    pub queue_time: Duration,
    /// On the worker.
    pub service_time: Duration,
    /// How busy the daemon is, 0 to 100.
    pub load: u8,
}

/// The answer to a Ping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pong {
    /// What was sent.
    pub body: Bytes,
    /// Who sent it back.
    pub address: Address,
}

/// What the daemon's Welcome said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// What the daemon calls itself.
    pub server: String,
    /// The version spoken.
    pub version: u16,
    /// Feature bits that both sides have.
    pub features: u64,
    /// Largest frame that the daemon reads, bytes.
    pub frame_bytes_max: u32,
    /// Largest body of a request, bytes.
    pub body_bytes_max: u64,
    /// Most requests that may be unanswered on the connection.
    pub in_flight_max: u32,
}

/// A session's totals, as the daemon counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Requests read.
    pub requests: u64,
    /// How many of them were answered with a failure.
    pub failures: u64,
    /// Bytes of bodies read.
    pub bytes_in: u64,
    /// Bytes of bodies written.
    pub bytes_out: u64,
    /// Sum over the replies.
    pub queue_time: Duration,
    /// Sum over the replies.
    pub service_time: Duration,
}

impl Totals {
    /// Those of another connection added.
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            failures: self.failures + other.failures,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            queue_time: self.queue_time + other.queue_time,
            service_time: self.service_time + other.service_time,
        }
    }
}

impl Request {
    /// A request for `operation` without parameters and with an empty body.
    pub fn new(operation: impl Into<String>) -> Self {
        Self {
            operation: operation.into(),
            parameters: Vec::new(),
            body: Bytes::new(),
            deadline: None,
            priority: Priority::default(),
            retry: Retry::default(),
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.push((name.into(), value.into()));
        self
    }

    /// Sets the input; a `Vec<u8>` or `Bytes` is taken over without a copy.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the priority.
    #[must_use]
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Sets when the request may be sent again.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Checks every bound that the daemon would refuse, so that nothing is sent in vain and no header is too long.
    pub(super) fn check(&self, terms: &Terms) -> Result<(), CallError> {
        at_most("the operation's name", self.operation.len(), NAME_BYTES_MAX)?;
        at_most("the number of parameters", self.parameters.len(), PARAMETERS_MAX)?;
        let mut header = HEADER_FIXED_BYTES_MAX + self.operation.len();
        for (name, value) in &self.parameters {
            at_most("a parameter's name", name.len(), NAME_BYTES_MAX)?;
            at_most("a parameter's value", value.len(), VALUE_BYTES_MAX)?;
            header += name.len() + value.len() + LENGTHS_BYTES_MAX;
        }
        at_most("the parameters together", header, usize::from(HEADER_BYTES_MAX))?;
        let body = self.body.len() as u64;
        let frame_room = u64::from(terms.frame_bytes_max).saturating_sub(header as u64 + PREFIX_BYTES as u64);
        let limit = terms.body_bytes_max.min(frame_room).min(u64::from(u32::MAX));
        if body > limit {
            return Err(CallError::TooLarge { what: "a body", found: body, limit });
        }
        Ok(())
    }
}

impl Priority {
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Interactive => PRIORITY_INTERACTIVE,
            Self::Batch => PRIORITY_BATCH,
        }
    }
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), CallError> {
    if found > limit {
        return Err(CallError::TooLarge { what, found: found as u64, limit: limit as u64 });
    }
    Ok(())
}
