//! The bridge between the two worlds, and the only place where they meet.
//!
//! A connection turns what one read delivered into a [`Batch`] of [`Job`]s and submits it; a worker takes it, runs
//! it and answers through the batch's oneshot. Nothing here computes, and nothing here waits.

mod admission;
mod backlog;
#[cfg(feature = "bench")]
pub mod bench;
mod bridge;
mod budget;
mod client;
mod cost;
mod failure;
mod few;
mod intake;
mod job;
mod outflow;
mod places;
mod post;
mod prospect;
mod reply;
mod schedule;
mod stop;
#[cfg(any(test, feature = "bench"))]
#[allow(clippy::unwrap_used, reason = "tests may; the micro-benchmarks share their jobs")]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the micro-benchmarks share the jobs of the tests, not their cases")
)]
mod tests;

pub(crate) use admission::{Admission, HeldBytes, Refusal, Slot};
pub(crate) use backlog::{Backlog, Newcomer};
pub(crate) use bridge::{Bridge, Hands};
pub(crate) use budget::Budget;
pub(crate) use client::{Client, ClientKey, Clients};
pub(crate) use cost::CostModel;
pub use failure::Failure;
pub use job::Class;
pub(crate) use job::{Admitted, Batch, Cost, Job};
pub(crate) use post::{Bag, Post, post};
pub(crate) use prospect::Prospect;
pub(crate) use reply::{Answer, Answers, PendingReplies, Replies, ReplyBox};
pub(crate) use stop::StopFlag;
#[cfg(test)]
pub(crate) use tests::settings as test_settings;
