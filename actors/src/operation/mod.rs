//! What a worker can be asked to do, without knowing any concrete thing.
//!
//! An operation is a name, a parameter schema, a cost estimate from the request's header alone, and a pure function
//! from bytes to bytes that looks at its stop flag as it goes. It never sees a socket, a channel, a runtime or the
//! clock; the house test enforces that.

mod arguments;
mod catalogue;
mod context;
mod declaration;

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use zeroize::Zeroizing;

pub use arguments::{ArgumentError, Arguments, Value};
pub use catalogue::{Catalogue, CatalogueError, Coalescing, Entry, OperationIndex};
pub use context::{
    JobContext, OutputBudget, Stop, StopCheck, WorkArea, WorkAreas, run_alone, run_in_peace, stretches,
};
pub use declaration::{Declaration, Limit, Parameter, ParameterKind, Resultant, Secrecy, SettingError};

/// Work that applications hand over.
pub trait Operation: Send + Sync + 'static {
    /// Name, parameters, limits: all that can be said without a request.
    fn declaration(&self) -> &Declaration;

    /// What a request will cost, from its header alone. Runs in the I/O world, so it is a formula, not a measurement
    /// of the input.
    ///
    /// # Errors
    ///
    /// When the arguments together ask for more than a cap allows; the request is then refused before its body is
    /// read.
    fn estimate(&self, arguments: &Arguments, input_bytes: u64) -> Result<Estimate, OperationError>;

    /// How long the request waits in the I/O world, in flight but not queued, before it is given to a worker.
    fn hold(&self, _arguments: &Arguments) -> Option<Duration> {
        None
    }

    /// Does the work on the calling thread and on no other. The input is lent; who wants to keep its bytes takes it. Long work calls [`StopCheck::check`] at least every
    /// [`Declaration::stretch_max`].
    ///
    /// # Errors
    ///
    /// When the input is not what the operation reads, a limit is reached, or the stop check says so. A panic is
    /// caught and answered as `Internal`.
    fn run(
        &self,
        arguments: &Arguments,
        input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError>;
}

/// What a request is expected to cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// Time on one core.
    pub cpu: Duration,
    /// Bytes of output that are held until they are written.
    pub output_bytes: u64,
    /// Bytes needed only while the work runs.
    pub work_bytes: u64,
}

/// The body of a request.
pub enum Input {
    /// Shares its memory with what was read from the connection.
    Shared(Bytes),
    /// The only copy; wiped when dropped.
    Secret(Zeroizing<Vec<u8>>),
}

impl Input {
    /// The input itself, in place of which an empty one is left.
    #[must_use]
    pub fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Shared(Bytes::new()))
    }

    /// The bytes, without a copy where they are shared. A secret is copied, and its first copy wiped.
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Secret(bytes) => Bytes::copy_from_slice(&bytes),
        }
    }
}

impl Deref for Input {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Secret(bytes) => bytes,
        }
    }
}

impl From<&'static [u8]> for Input {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Shared(Bytes::from_static(bytes))
    }
}

impl From<Vec<u8>> for Input {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Shared(bytes.into())
    }
}

impl fmt::Debug for Input {
    /// Never shows content.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Input({} bytes)", self.len())
    }
}

/// The result of an operation.
#[derive(Clone, PartialEq, Eq)]
pub struct Output(pub Bytes);

impl<T: Into<Bytes>> From<T> for Output {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

impl fmt::Debug for Output {
    /// Never shows content.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Output({} bytes)", self.0.len())
    }
}

/// Why an operation has no result. The texts are answered to the client.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OperationError {
    /// The arguments contradict each other or exceed a cap.
    #[error("{0}")]
    InvalidParameter(String),
    /// The input is not what the operation reads.
    #[error("{0}")]
    InvalidInput(String),
    /// Input or output over a limit.
    #[error("{0}")]
    TooLarge(String),
    /// A memory bound that is a matter of the moment.
    #[error("{0}")]
    Overloaded(String),
    /// The stop check said so.
    #[error(transparent)]
    Stopped(#[from] Stop),
    /// A bug, or a library that failed for no reason in the input.
    #[error("{0}")]
    Internal(String),
}
