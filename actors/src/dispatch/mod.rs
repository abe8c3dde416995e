//! The bridge between the two worlds, and the only place where they meet.

mod admission;
mod job;

pub(crate) use admission::{Admission, HeldBytes, Refusal, Slot};
pub(crate) use job::StopFlag;
