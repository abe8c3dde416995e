//! The threads and limits of the process.

use std::io;
use std::num::NonZeroUsize;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::config::{Config, Io};

/// What is set once for the whole process, and said in the log.
pub(crate) fn prepare_process(config: &Config) {
    std::panic::set_hook(Box::new(log_panic));
    raise_descriptor_limit();
    for (key, value) in config.resolved() {
        tracing::info!(key, value, "resolved auto");
    }
}

/// The soft limit is 1,024 by default and would be the first to bite; the hard one is what the operator allows.
fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::info!(from = current, to = maximum, "raised the soft limit of descriptors"),
        Err(error) => tracing::warn!(%error, "cannot raise the soft limit of descriptors"),
    }
}

/// A panic in an operation is caught, answered and counted by its worker; here it gets its place in the log.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let message = panic.payload_as_str().unwrap_or("not a text");
    let location = panic.location().map(ToString::to_string);
    tracing::error!(thread = thread.name(), location, message, "a thread panicked");
}

/// Starts the I/O threads.
///
/// # Errors
///
/// When the system does not give them.
pub(crate) fn start(settings: &Io, cores: NonZeroUsize) -> io::Result<Runtime> {
    let index = AtomicUsize::new(0);
    let mut builder = Builder::new_multi_thread();
    if cores > NonZeroUsize::MIN {
        // With one core, the worker that is looked out for would wait for this thread.
        builder.on_thread_park(windlass_actors::look_out);
    }
    builder
        .worker_threads(settings.threads.get())
        .thread_stack_size(settings.thread_stack_bytes)
        .thread_name_fn(move || format!("windlass-io-{}", index.fetch_add(1, Ordering::Relaxed)))
        // Nothing on the request path uses it; one thread bounds what a library might.
        .max_blocking_threads(1)
        .on_thread_start(|| tracing::debug!(thread = std::thread::current().name(), "I/O thread started"))
        .on_thread_stop(|| tracing::debug!(thread = std::thread::current().name(), "I/O thread stopped"))
        .enable_all()
        .build()
}
