//! The servers of our own writing that are compared with, and gearman's workers: what somebody would write who does
//! not pick a daemon.

mod frames;
mod gearman_worker;
mod http;

pub(crate) use frames::{Answering, SOCKET as FRAMES_SOCKET, serve as serve_frames};
pub(crate) use gearman_worker::work as gearman_work;
pub(crate) use http::{Handlers, serve as serve_axum};
#[cfg(test)]
pub(crate) use {
    frames::serve_tcp as serve_frames_tcp, gearman_worker::work_on as gearman_work_on, http::router,
};

use rayon::ThreadPool;
use tokio::sync::oneshot;

/// Niceness of the CPU threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Niceness {
    Own,
    Lowest,
}

/// One thread for each core, as rayon has it.
pub(crate) fn pool(niceness: Niceness) -> ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .start_handler(move |_| {
            if niceness == Niceness::Lowest {
                rustix::process::setpriority_process(None, 19).expect("niceness may always be raised");
            }
        })
        .build()
        .expect("threads can be started")
}

/// Runs `job` on the pool, as the documentation of tokio says how.
pub(crate) async fn on_pool<T: Send + 'static>(
    pool: &ThreadPool,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    pool.spawn(move || drop(sender.send(job())));
    receiver.await.ok()
}
