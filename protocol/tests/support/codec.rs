//! The crate under test, called by the number of a kind.

use serde::Serialize;
use windlass_protocol::{
    Close, Closed, Credit, DecodeError, Failure, GoAway, Header, Hello, Kind, NoFields, PREFIX_BYTES, Query,
    Reply, Welcome, Work, append_frame,
};

/// A frame as the codec writes it. It leaves flags to the caller, for streaming to come.
pub(crate) fn written(kind: Kind, flags: u8, id: u64, header: &impl Serialize, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, kind, id, header, body);
    bytes[1] = flags;
    bytes
}

/// Reads a header with the codec and writes what was read.
pub(crate) fn rewritten(kind: u8, header: &[u8]) -> Result<Vec<u8>, DecodeError> {
    fn again<'a, T: Header<'a> + Serialize>(bytes: &'a [u8]) -> Result<Vec<u8>, DecodeError> {
        Ok(written(T::KIND, 0, 1, &T::decode(bytes)?, b"").split_off(PREFIX_BYTES))
    }
    match Kind::ALL[usize::from(kind) - 1] {
        Kind::Hello => again::<Hello>(header),
        Kind::Welcome => again::<Welcome>(header),
        Kind::Work => again::<Work>(header),
        Kind::Reply => again::<Reply>(header),
        Kind::Failure => again::<Failure>(header),
        Kind::Credit => again::<Credit>(header),
        Kind::Query => again::<Query>(header),
        Kind::GoAway => again::<GoAway>(header),
        Kind::Close => again::<Close>(header),
        Kind::Closed => again::<Closed>(header),
        kind @ (Kind::Data | Kind::Cancel | Kind::Ping | Kind::Pong | Kind::Info) => {
            Ok(written(kind, 0, 1, &NoFields::decode(kind, header)?, b"").split_off(PREFIX_BYTES))
        }
    }
}
