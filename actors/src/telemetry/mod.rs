//! What can be seen from outside: counters, one look at all of them, and what is made of it.

mod accuracy;
mod crew;
mod histogram;
mod metrics;
mod observer;
mod outcome;
mod snapshot;
mod status;
mod worker;

pub use accuracy::AccuracySnapshot;
pub use histogram::HistogramSnapshot;
pub use observer::Observer;
pub use snapshot::{
    DoorSnapshot, JobsSnapshot, QueueSnapshot, RequestsSnapshot, RunningSnapshot, Snapshot, WorkerSnapshot,
};

pub(crate) use crew::Crew;
pub(crate) use histogram::nanos;
pub(crate) use metrics::{Asked, Metrics, add};
pub(crate) use status::{catalogue_json, status_json};
pub(crate) use worker::{End, Started};
