//! Why a request has no result, as a stranger may learn it. The only file that turns errors into wire codes.

use std::borrow::Cow;
use std::time::Duration;

use windlass_protocol::FailureCode;

use super::Refusal;
use crate::operation::{ArgumentError, OperationError, Stop};

/// A final answer that is not a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, as a stable number.
    pub code: FailureCode,
    /// Why, for people: lower case, no full stop.
    pub message: Cow<'static, str>,
    /// When the same request has a chance, where that is known.
    pub retry_after: Option<Duration>,
    /// Whether the operation has certainly not been started.
    pub retry_safe: bool,
}

impl Failure {
    /// A request that was refused before its operation was started.
    pub fn refused(code: FailureCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None, retry_safe: true }
    }

    /// A request whose operation was started.
    pub(crate) fn ended(code: FailureCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after: None, retry_safe: false }
    }

    pub(crate) fn draining() -> Self {
        Self::refused(FailureCode::DRAINING, "the daemon is shutting down and accepts no more requests")
    }

    pub(crate) fn unknown_operation(name: &str, known: &str) -> Self {
        let message = format!("no operation '{}' is enabled; enabled are {known}", name.escape_debug());
        Self::refused(FailureCode::UNKNOWN_OPERATION, message)
    }

    /// A bug of ours. The log says more than the stranger is told.
    pub(crate) fn lost() -> Self {
        Self::ended(
            FailureCode::INTERNAL,
            "the request was lost inside the daemon; this is a bug, see its log",
        )
    }

    pub(crate) fn panicked(operation: &'static str) -> Self {
        let message =
            format!("operation '{operation}' failed unexpectedly; this is a bug, see the daemon's log");
        Self::ended(FailureCode::INTERNAL, message)
    }

    /// The client cancelled or left before a worker took the job.
    pub(crate) fn abandoned() -> Self {
        Self::refused(FailureCode::CANCELLED, "cancelled before it was started")
    }

    /// Nobody is there any more, or whoever half-closed without Close does not count as waiting.
    pub(crate) fn left() -> Self {
        Self::ended(FailureCode::CANCELLED, "the client ended its side of the connection without Close")
    }

    /// Taken by a worker after its deadline.
    pub(crate) fn expired(waited: Duration) -> Self {
        let message =
            format!("the deadline passed before it was started; it waited {} ms", waited.as_millis());
        Self::refused(FailureCode::DEADLINE_EXCEEDED, message)
    }

    /// Its body was still coming at its deadline.
    pub(crate) fn not_arrived() -> Self {
        Self::refused(FailureCode::DEADLINE_EXCEEDED, "the deadline passed before the whole body had come")
    }

    /// Has waited for longer than `queue.max_wait`.
    pub(crate) fn waited_too_long(waited: Duration) -> Self {
        let message = format!("it waited {} ms for a worker, longer than queue.max_wait", waited.as_millis());
        Self::refused(FailureCode::OVERLOADED, message)
    }

    /// Has waited for so long that it cannot end before its deadline any more.
    pub(crate) fn hopeless(waited: Duration) -> Self {
        let message = format!(
            "it waited {} ms for a worker, and too little time is left until its deadline",
            waited.as_millis()
        );
        Self::refused(FailureCode::OVERLOADED, message)
    }

    /// Would have to wait for longer than it may.
    pub(crate) fn late(wait: Duration, wait_max: Duration) -> Self {
        let message = format!(
            "it would wait some {} ms for a worker, more than the {} ms that its deadline and queue.max_wait leave",
            wait.as_millis(),
            wait_max.as_millis()
        );
        Self::refused(FailureCode::OVERLOADED, message)
    }

    /// Says when the same request has a chance; at least a millisecond, the unit in which it is told.
    #[must_use]
    pub(crate) fn retry_after(self, time: Duration) -> Self {
        Self { retry_after: Some(time.max(Duration::from_millis(1))), ..self }
    }

    /// The same where it is only the queue that stands in the way.
    #[must_use]
    pub(crate) fn retry_after_if_overloaded(self, time: impl FnOnce() -> Duration) -> Self {
        if self.code == FailureCode::OVERLOADED { self.retry_after(time()) } else { self }
    }

    /// Its input has done harm before.
    pub(crate) fn contained(operation: &'static str, left: Duration) -> Self {
        let message = format!(
            "this input has made operation '{operation}' fail or run away before; it is refused for another {} s",
            left.as_secs() + 1
        );
        Self::refused(FailureCode::INVALID_INPUT, message)
    }

    /// Stopped because the drain is over.
    pub(crate) fn drain_over() -> Self {
        Self::ended(FailureCode::CANCELLED, "stopped because the daemon's drain.timeout passed")
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::refused(FailureCode::OVERLOADED, refusal.to_string())
    }
}

impl From<ArgumentError> for Failure {
    fn from(error: ArgumentError) -> Self {
        Self::refused(FailureCode::INVALID_PARAMETER, error.to_string())
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        let code = match &error {
            OperationError::InvalidParameter(_) => FailureCode::INVALID_PARAMETER,
            OperationError::InvalidInput(_) => FailureCode::INVALID_INPUT,
            OperationError::TooLarge(_) => FailureCode::TOO_LARGE,
            OperationError::Overloaded(_) => FailureCode::OVERLOADED,
            OperationError::Stopped(Stop::Cancelled) => FailureCode::CANCELLED,
            OperationError::Stopped(Stop::DeadlineExceeded) => FailureCode::DEADLINE_EXCEEDED,
            OperationError::Internal(_) => FailureCode::INTERNAL,
        };
        Self::ended(code, error.to_string())
    }
}
