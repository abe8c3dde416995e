//! What can be wrong with bytes from a stranger.

use thiserror::Error;

/// A header that could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// The header's bytes are not the fields of its kind.
    #[error("the {kind} header cannot be read: {reason}")]
    Malformed {
        /// Name of the frame's kind.
        kind: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// The fields ended before the header did.
    #[error("the {kind} header has {count} bytes after its last field")]
    TrailingBytes {
        /// Name of the frame's kind.
        kind: &'static str,
        /// How many bytes are left.
        count: usize,
    },
    /// A text or list is longer than the protocol allows.
    #[error("{what} of the {kind} header is {found} long, more than the {limit} allowed")]
    TooLong {
        /// Name of the frame's kind.
        kind: &'static str,
        /// The field.
        what: &'static str,
        /// What was found.
        found: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// A frame prefix that breaks a rule; the connection cannot go on after it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Violation {
    /// A kind of 0 or 16–127 that this version does not define.
    #[error("frame kind {0} is not defined in version 1")]
    UnknownKind(u8),
    /// Flags that are not defined for this kind.
    #[error("flags {flags:#04x} are not defined for a {kind} frame")]
    UndefinedFlags {
        /// Name of the frame's kind.
        kind: &'static str,
        /// The flags found.
        flags: u8,
    },
    /// A header longer than any may be.
    #[error("a header of {found} bytes is longer than the {limit} allowed")]
    HeaderTooLong {
        /// `header_len` as found.
        found: u16,
        /// The limit.
        limit: u16,
    },
    /// A body on a kind that has none, or a Ping body over its bound.
    #[error("a {kind} frame with a body of {found} bytes; at most {limit} are allowed")]
    BodyNotAllowed {
        /// Name of the frame's kind.
        kind: &'static str,
        /// `body_len` as found.
        found: u32,
        /// The limit for the kind.
        limit: u32,
    },
    /// A frame larger than `frame_bytes_max`.
    #[error("a {kind} frame of {found} bytes is larger than frame_bytes_max, {limit}")]
    FrameTooLarge {
        /// Name of the frame's kind.
        kind: &'static str,
        /// Prefix, header and body together.
        found: u64,
        /// The announced bound.
        limit: u32,
    },
    /// Id 0 where a request is meant, or another where the connection is meant.
    #[error("a {kind} frame with id {id}; {expected}")]
    WrongId {
        /// Name of the frame's kind.
        kind: &'static str,
        /// The id found.
        id: u64,
        /// The rule.
        expected: &'static str,
    },
}
