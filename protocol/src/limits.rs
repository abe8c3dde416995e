//! The fixed bounds of the wire. A limit that an operator may choose is in the daemon's configuration instead.

/// Longest header of any frame, bytes. `header_len` could say 65,535; a decoder refuses more than this.
pub const HEADER_BYTES_MAX: u16 = 16 * 1024;

/// Most parameters in one Work header.
pub const PARAMETERS_MAX: usize = 64;

/// Longest name of an operation, a parameter, a client or a server, bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Longest parameter value, bytes.
pub const VALUE_BYTES_MAX: usize = 4 * 1024;

/// Longest message of a Failure, bytes. Longer ones are cut at a character boundary by the sender.
pub const MESSAGE_BYTES_MAX: usize = 1024;

/// Most extensions in one header.
pub const EXTENSIONS_MAX: usize = 16;

/// Longest body of a Ping or Pong, bytes.
pub const PING_BYTES_MAX: u32 = 64;

/// Smallest `frame_bytes_max` that a peer may announce, bytes: a full header and a little body must always fit.
pub const FRAME_BYTES_MIN: u32 = 32 * 1024;

/// A refused body of up to this many bytes is read and skipped; a larger one ends the connection.
pub const SKIP_BYTES_MAX: u64 = 1024 * 1024;
