//! The CPU world: a rayon pool whose threads are the workers. It never awaits and never sees a socket. The only
//! folder that names rayon.

mod coalesce;
mod containment;
mod digest;
mod pool;
mod worker;
mod workers;

pub use pool::{Pool, PoolError};
pub(crate) use pool::{job_bytes_max, thread_name};
pub use workers::Recruiter;
pub(crate) use workers::Workers;
