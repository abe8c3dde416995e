//! The one load generator that drives all rows: a single thread on epoll, the same for every peer. A peer's protocol
//! says how a request is written and where an answer ends, and nothing else, so that all of them cost it about the
//! same.

mod closed;
mod idle;
mod link;
mod paced;
mod protocol;

pub(crate) use closed::{Shape, closed_loop};
pub(crate) use idle::hold;
pub(crate) use link::Address;
pub(crate) use paced::{Pace, paced};
pub(crate) use protocol::frames::{self, Frames};
pub(crate) use protocol::gearman::{self, Gearman};
pub(crate) use protocol::http::Http;
pub(crate) use protocol::native::Native;
pub(crate) use protocol::resp::Resp;
pub(crate) use protocol::{Protocol, noise};

#[cfg(test)]
mod tests;
