//! The wire of Windlass: bytes to meaning and back.
//!
//! `SPEC.md` beside this crate is the contract; this crate is one implementation of it. The codec has no threads,
//! no clock and no sockets, so that the daemon, the clients and the tests share one reading of every byte. The
//! clients live in [`client`], behind the cargo feature of the same name.

/// The examples of the README compile.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../../README.md")]
struct Readme;

pub mod limits;

mod code;
mod error;
mod frame;
mod header;
mod message;

#[cfg(feature = "client")]
pub mod client;

pub use code::{CodeClass, FailureCode};
pub use error::{DecodeError, Violation};
pub use frame::{
    FLAG_MORE, Kind, KindNumber, PREFACE, PREFIX_BYTES, Prefix, REQUEST_ID_MAX, append_frame,
    append_frame_head,
};
pub use message::{
    Close, Closed, Credit, Extension, Extensions, Failure, GoAway, Header, Hello, NoFields, PRIORITY_BATCH,
    PRIORITY_INTERACTIVE, Query, Reply, SUBJECT_CATALOGUE, SUBJECT_STATUS, Subject, Terms, Welcome, Work,
};

/// The only version of the protocol that exists.
pub const VERSION: u16 = 1;

/// Feature bit 0: bodies in several parts (`more`, Data, Credit). Reserved; nothing sets it yet.
pub const FEATURE_STREAMING: u64 = 1;
