//! What can be seen from outside: counters and the status made from them.

mod metrics;
mod status;

pub(crate) use metrics::{End, Metrics, add};
pub(crate) use status::{catalogue_json, status_json};
