//! The bridge between the two worlds, and the only place where they meet.
//!
//! A connection turns what one read delivered into a [`Batch`] of [`Job`]s and submits it; a worker takes it, runs
//! it and answers through the batch's oneshot. Nothing here computes, and nothing here waits.

mod admission;
#[cfg(feature = "bench")]
pub mod bench;
mod bridge;
mod budget;
mod failure;
mod intake;
mod job;
mod places;
mod reply;
mod schedule;
#[cfg(any(test, feature = "bench"))]
#[allow(clippy::unwrap_used, reason = "tests may; the micro-benchmarks share their jobs")]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the micro-benchmarks share the jobs of the tests, not their cases")
)]
mod tests;

use std::net::IpAddr;

pub(crate) use admission::{Admission, HeldBytes, Refusal, Slot};
pub(crate) use bridge::Bridge;
pub(crate) use budget::Budget;
pub use failure::Failure;
pub use job::Class;
pub(crate) use job::{Admitted, Batch, Job, StopFlag};
pub(crate) use reply::{Answer, PendingReplies, Replies, ReplyBox};

/// Whom CPU time is shared between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    /// A connection by its number.
    Connection(u64),
    /// An IP address.
    Address(IpAddr),
    /// A user at the other end of a Unix socket.
    Uid(u32),
}
