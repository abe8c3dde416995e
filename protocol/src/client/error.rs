//! Why a call has no result, and whether the same may be asked again.

use std::time::Duration;

use thiserror::Error;

use super::address::Address;
use crate::code::FailureCode;

/// A Failure that the daemon sent, or that its GoAway stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind of failure.
    pub code: FailureCode,
    /// For a person.
    pub message: String,
    /// After which time the same request has a chance.
    pub retry_after: Option<Duration>,
    /// Whether the operation has certainly not been started.
    pub retry_safe: bool,
    /// How busy the daemon was, 0 to 100.
    pub load: u8,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The daemon refused or failed the request.
    #[error("{}: {}", .0.code, .0.message)]
    Failure(Failure),
    /// The request was not sent: no connection could be made, or it ended before.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Where the daemon was expected.
        address: Address,
        /// What was found instead.
        reason: String,
    },
    /// The connection ended after the request was sent and before its answer: nobody knows whether it ran.
    #[error("the connection to {address} was lost while waiting for the answer: {reason}")]
    ConnectionLost {
        /// The daemon's address.
        address: Address,
        /// How the connection ended.
        reason: String,
    },
    /// The peer sent what the protocol does not allow; the connection was ended.
    #[error("the peer at {address} does not keep to the protocol: {reason}")]
    Protocol {
        /// The daemon's address.
        address: Address,
        /// The rule that was broken.
        reason: String,
    },
    /// A part of the request is over a limit of the daemon or the protocol; nothing was sent.
    #[error("{what} of {found} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// The part.
        what: &'static str,
        /// Its length, bytes (a count for the number of parameters).
        found: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// No answer within the deadline and its grace; the daemon was told to stop.
    #[error("no answer within {waited:.1?}")]
    DeadlineExceeded {
        /// How long the client waited.
        waited: Duration,
    },
    /// The client was closed before.
    #[error("the client is closed")]
    Closed,
}

impl Failure {
    /// What an id above the last one of a GoAway is concluded with.
    pub(super) fn draining(message: &str) -> Self {
        Self {
            code: FailureCode::DRAINING,
            message: message.to_owned(),
            retry_after: None,
            retry_safe: true,
            load: 0,
        }
    }
}

impl CallError {
    /// Whether the operation certainly was not started, so that sending the request again cannot run it twice.
    pub fn is_retry_safe(&self) -> bool {
        match self {
            Self::Failure(failure) => failure.retry_safe,
            Self::Unreachable { .. } | Self::TooLarge { .. } | Self::Closed => true,
            Self::ConnectionLost { .. } | Self::Protocol { .. } | Self::DeadlineExceeded { .. } => false,
        }
    }

    pub(super) fn draining(message: &str) -> Self {
        Self::Failure(Failure::draining(message))
    }
}
