//! Why a scenario could not be run. What a daemon does under load is a figure, never a trouble.

use std::io;

use thiserror::Error;
use windlass_protocol::client::CallError;

#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("{attempted}: {error}")]
    Io { attempted: String, error: io::Error },
    #[error("{attempted}: {error}")]
    Call { attempted: String, error: CallError },
    #[error("building windlassd failed; cargo's own words stand above")]
    Build,
    #[error("windlassd ended before it was ready; it said:\n{0}")]
    NotReady(String),
    #[error("{asked} of the daemon has no {missing}")]
    Missing { asked: &'static str, missing: String },
}

impl Trouble {
    pub(crate) fn io(attempted: &str, error: io::Error) -> Self {
        Self::Io { attempted: attempted.to_owned(), error }
    }

    pub(crate) fn call(attempted: &str, error: CallError) -> Self {
        Self::Call { attempted: attempted.to_owned(), error }
    }
}
