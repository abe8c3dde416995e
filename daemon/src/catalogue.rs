//! The operations of this program meet its configuration.

use crate::config::{Config, ConfigError, Known, Machine, Sources};
use crate::operations;

/// Reads the configuration for the operations that this program has.
///
/// # Errors
///
/// Every problem of the configuration.
pub(crate) fn load(sources: &Sources, machine: &Machine) -> Result<Config, ConfigError> {
    let known = Known { declared: operations::declared(), build: &operations::build };
    Config::load(sources, &known, machine)
}

/// The names of all operations, by their index.
pub(crate) fn names() -> Vec<&'static str> {
    operations::declared().iter().map(|declaration| declaration.name).collect()
}
