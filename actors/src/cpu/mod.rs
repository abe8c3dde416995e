//! The CPU world: a rayon pool whose threads are the workers. It never awaits and never sees a socket. The only
//! folder that names rayon.

mod coalesce;
mod containment;
mod digest;
mod pool;
mod worker;

pub use pool::PoolError;
pub(crate) use pool::{Workers, job_bytes_max, thread_name};
