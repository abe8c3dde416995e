//! What the suites share: the programs, a daemon that runs them, and patience.
//!
//! Tests wait on facts: a line in the log, an answer, the end of a process. Nothing here sleeps to give something
//! time; [`eventually`] looks again and again until [`PATIENCE`] is used up.

#![allow(clippy::print_stdout, reason = "the test runner shows it when the test fails")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
#![allow(clippy::missing_panics_doc, reason = "every one of them fails the test that called it")]

pub mod admin;
mod browser;
mod daemon;
mod data;
mod gate;
pub mod h2;
pub mod http;
mod programs;
pub mod raw;

pub use browser::{Browser, dom};
pub use daemon::{Daemon, Ended, Ready};
pub use data::{Sample, sample, samples};
pub use gate::{Gate, workers};
pub use programs::{Program, Ran, python, python_with, run, tool, windlass};
pub use raw::Raw;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything that must happen may take, on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `look` finds something.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "still not so after {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A count that `.ci/run` keeps small and that a long soak may raise: the environment variable `name`, or `usual`.
pub fn repetitions(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number of repetitions"))
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate stands in the workspace").to_owned()
}
