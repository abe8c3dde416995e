//! Why there is no figure.

use std::fmt;

/// Why a measurement, or the whole run, came to nothing.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    /// What it needs is not here; the row says so and the run goes on.
    Skipped(String),
    /// Something is wrong.
    Failed(String),
}

/// A figure, or why there is none.
pub(crate) type Result<T> = std::result::Result<T, Trouble>;

impl fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped(reason) => write!(formatter, "skipped: {reason}"),
            Self::Failed(reason) => write!(formatter, "failed: {reason}"),
        }
    }
}

/// Says what was attempted when something fails.
pub(crate) trait Attempt<T> {
    /// `attempted` reads as in "cannot {attempted}".
    fn trying(self, attempted: impl fmt::Display) -> Result<T>;
}

impl<T, E: fmt::Display> Attempt<T> for std::result::Result<T, E> {
    fn trying(self, attempted: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Trouble::Failed(format!("cannot {attempted}: {error}")))
    }
}

/// What was found is not what was expected.
pub(crate) fn failed<T>(reason: impl fmt::Display) -> Result<T> {
    Err(Trouble::Failed(reason.to_string()))
}
