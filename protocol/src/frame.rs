//! The frame: a fixed prefix that says what follows, so that limits hold before anything is allocated.

use serde::Serialize;

use crate::error::Violation;
use crate::header;
use crate::limits::{HEADER_BYTES_MAX, PING_BYTES_MAX};

/// What both sides send before their first frame.
pub const PREFACE: [u8; 8] = *b"WINDLASS";

/// Length of a [`Prefix`] on the wire, bytes.
pub const PREFIX_BYTES: usize = 16;

/// Flag 1, *more*: further parts of this body follow in Data frames. Defined for Work, Data and Reply.
pub const FLAG_MORE: u8 = 1;

/// Highest id of a request. The one above it stands for *not known yet* in a GoAway.
pub const REQUEST_ID_MAX: u64 = u64::MAX - 1;

/// The first 16 bytes of every frame, little endian.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    /// Number of the frame's kind; see [`Kind`].
    pub kind: u8,
    /// Bit set; see [`FLAG_MORE`].
    pub flags: u8,
    /// Bytes of header that follow the prefix.
    pub header_len: u16,
    /// Bytes of body that follow the header.
    pub body_len: u32,
    /// The request that the frame speaks of; 0 is the connection itself.
    pub id: u64,
}

/// The kinds of frame that version 1 defines. The discriminant is the number on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Client: the versions and limits it speaks.
    Hello = 1,
    /// Daemon: the version chosen and its limits.
    Welcome = 2,
    /// Client: a request.
    Work = 3,
    /// Either: more of a body.
    Data = 4,
    /// Daemon: a result.
    Reply = 5,
    /// Daemon: why there is no result.
    Failure = 6,
    /// Client: the answer is no longer wanted.
    Cancel = 7,
    /// Either: how much of a body may be sent.
    Credit = 8,
    /// Either: is anybody there.
    Ping = 9,
    /// Either: the Ping's body back.
    Pong = 10,
    /// Client: a question to the daemon about itself.
    Query = 11,
    /// Daemon: the answer to a Query, as JSON.
    Info = 12,
    /// Daemon: send no more.
    GoAway = 13,
    /// Client: no more requests will come.
    Close = 14,
    /// Daemon: the session's totals, after its last answer.
    Closed = 15,
}

/// A kind's number, sorted by what a reader does with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KindNumber {
    /// Defined in version 1.
    Known(Kind),
    /// 128–255: from a later version, to be skipped.
    Skip,
    /// 0 or 16–127: the peer breaks the protocol.
    Undefined,
}

impl Kind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::Hello,
        Self::Welcome,
        Self::Work,
        Self::Data,
        Self::Reply,
        Self::Failure,
        Self::Cancel,
        Self::Credit,
        Self::Ping,
        Self::Pong,
        Self::Query,
        Self::Info,
        Self::GoAway,
        Self::Close,
        Self::Closed,
    ];

    /// Sorts a number from the wire.
    pub const fn from_number(number: u8) -> KindNumber {
        match number {
            1..=15 => KindNumber::Known(Self::ALL[number as usize - 1]),
            128..=255 => KindNumber::Skip,
            _ => KindNumber::Undefined,
        }
    }

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name in SPEC.md.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "Hello",
            Self::Welcome => "Welcome",
            Self::Work => "Work",
            Self::Data => "Data",
            Self::Reply => "Reply",
            Self::Failure => "Failure",
            Self::Cancel => "Cancel",
            Self::Credit => "Credit",
            Self::Ping => "Ping",
            Self::Pong => "Pong",
            Self::Query => "Query",
            Self::Info => "Info",
            Self::GoAway => "GoAway",
            Self::Close => "Close",
            Self::Closed => "Closed",
        }
    }

    const fn flags_defined(self) -> u8 {
        match self {
            Self::Work | Self::Data | Self::Reply => FLAG_MORE,
            _ => 0,
        }
    }

    /// Largest body that the kind allows whatever `frame_bytes_max` says.
    const fn body_bytes_max(self) -> u32 {
        match self {
            Self::Work | Self::Data | Self::Reply | Self::Info => u32::MAX,
            Self::Ping | Self::Pong => PING_BYTES_MAX,
            _ => 0,
        }
    }

    /// `None` where any id may stand.
    const fn id_rule(self) -> Option<IdRule> {
        match self {
            Self::Hello | Self::Welcome | Self::GoAway | Self::Close | Self::Closed => {
                Some(IdRule::Connection)
            }
            Self::Work | Self::Reply | Self::Query | Self::Info => Some(IdRule::Request),
            _ => None,
        }
    }
}

#[derive(Clone, Copy)]
enum IdRule {
    Connection,
    Request,
}

impl Prefix {
    /// The prefix as it stands on the wire.
    pub const fn to_bytes(self) -> [u8; PREFIX_BYTES] {
        let header_len = self.header_len.to_le_bytes();
        let body_len = self.body_len.to_le_bytes();
        let id = self.id.to_le_bytes();
        [
            self.kind,
            self.flags,
            header_len[0],
            header_len[1],
            body_len[0],
            body_len[1],
            body_len[2],
            body_len[3],
            id[0],
            id[1],
            id[2],
            id[3],
            id[4],
            id[5],
            id[6],
            id[7],
        ]
    }

    /// Reads a prefix. Every 16 bytes are one; whether its values are allowed is [`Prefix::check`]'s to say.
    pub const fn from_bytes(bytes: [u8; PREFIX_BYTES]) -> Self {
        let [kind, flags, h0, h1, b0, b1, b2, b3, i0, i1, i2, i3, i4, i5, i6, i7] = bytes;
        Self {
            kind,
            flags,
            header_len: u16::from_le_bytes([h0, h1]),
            body_len: u32::from_le_bytes([b0, b1, b2, b3]),
            id: u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
        }
    }

    /// Reads the prefix at the start of `bytes`, or `None` while there are fewer than 16.
    pub fn peek(bytes: &[u8]) -> Option<Self> {
        bytes.first_chunk::<PREFIX_BYTES>().map(|chunk| Self::from_bytes(*chunk))
    }

    /// Whether the prefix keeps the rules that hold for its kind whatever the limits of the peers are. Sizes
    /// against `frame_bytes_max` are the caller's to check, because a Work over the limit is refused, not a
    /// violation.
    ///
    /// # Errors
    ///
    /// The rule that is broken.
    pub const fn check(&self) -> Result<KindNumber, Violation> {
        if self.header_len > HEADER_BYTES_MAX {
            return Err(Violation::HeaderTooLong { found: self.header_len, limit: HEADER_BYTES_MAX });
        }
        let number = Kind::from_number(self.kind);
        let kind = match number {
            KindNumber::Known(kind) => kind,
            KindNumber::Skip => return Ok(number),
            KindNumber::Undefined => return Err(Violation::UnknownKind(self.kind)),
        };
        if self.flags & !kind.flags_defined() != 0 {
            return Err(Violation::UndefinedFlags { kind: kind.name(), flags: self.flags });
        }
        if self.body_len > kind.body_bytes_max() {
            return Err(Violation::BodyNotAllowed {
                kind: kind.name(),
                found: self.body_len,
                limit: kind.body_bytes_max(),
            });
        }
        match kind.id_rule() {
            Some(IdRule::Connection) if self.id != 0 => Err(Violation::WrongId {
                kind: kind.name(),
                id: self.id,
                expected: "it speaks of the connection, which is id 0",
            }),
            Some(IdRule::Request) if self.id == 0 || self.id > REQUEST_ID_MAX => Err(Violation::WrongId {
                kind: kind.name(),
                id: self.id,
                expected: "requests are numbered from 1 to 2^64 - 2",
            }),
            _ => Ok(number),
        }
    }

    /// Prefix, header and body together, bytes.
    pub const fn frame_bytes(&self) -> u64 {
        PREFIX_BYTES as u64 + self.header_len as u64 + self.body_len as u64
    }
}

/// Appends prefix and header of a frame whose body of `body_len` bytes the caller sends after it.
///
/// # Panics
///
/// If the header is longer than [`HEADER_BYTES_MAX`]: the caller bounds what it puts in.
pub fn append_frame_head(out: &mut Vec<u8>, kind: Kind, id: u64, header: &impl Serialize, body_len: u32) {
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_BYTES]);
    header::append(out, header);
    let header_len = u16::try_from(out.len() - start - PREFIX_BYTES)
        .ok()
        .filter(|len| *len <= HEADER_BYTES_MAX)
        .expect("the sender bounds its header fields");
    let prefix = Prefix { kind: kind.number(), flags: 0, header_len, body_len, id };
    out[start..start + PREFIX_BYTES].copy_from_slice(&prefix.to_bytes());
}

/// Appends a whole frame.
///
/// # Panics
///
/// If the header is longer than [`HEADER_BYTES_MAX`] or the body than `u32::MAX` bytes.
pub fn append_frame(out: &mut Vec<u8>, kind: Kind, id: u64, header: &impl Serialize, body: &[u8]) {
    let body_len = u32::try_from(body.len()).expect("the sender bounds its bodies");
    append_frame_head(out, kind, id, header, body_len);
    out.extend_from_slice(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_survives_the_round_trip() {
        let prefix = Prefix {
            kind: 3,
            flags: 1,
            header_len: 0x1234,
            body_len: 0x8765_4321,
            id: 0x0102_0304_0506_0708,
        };
        assert_eq!(Prefix::from_bytes(prefix.to_bytes()), prefix);
        assert_eq!(prefix.to_bytes()[..8], [3, 1, 0x34, 0x12, 0x21, 0x43, 0x65, 0x87]);
    }

    #[test]
    fn kinds_are_sorted_by_range() {
        for number in 0..=255u8 {
            let sorted = Kind::from_number(number);
            match number {
                1..=15 => assert!(matches!(sorted, KindNumber::Known(kind) if kind.number() == number)),
                128.. => assert_eq!(sorted, KindNumber::Skip),
                _ => assert_eq!(sorted, KindNumber::Undefined),
            }
        }
    }

    #[test]
    fn a_prefix_that_breaks_a_rule_is_named() {
        let good = Prefix { kind: Kind::Work.number(), flags: 0, header_len: 4, body_len: 9, id: 1 };
        assert!(good.check().is_ok());
        let check = |change: fn(&mut Prefix)| {
            let mut prefix = good;
            change(&mut prefix);
            prefix.check().unwrap_err()
        };
        assert!(matches!(check(|p| p.kind = 16), Violation::UnknownKind(16)));
        assert!(matches!(check(|p| p.flags = 2), Violation::UndefinedFlags { .. }));
        assert!(matches!(check(|p| p.header_len = HEADER_BYTES_MAX + 1), Violation::HeaderTooLong { .. }));
        assert!(matches!(check(|p| p.kind = Kind::Cancel.number()), Violation::BodyNotAllowed { .. }));
        assert!(matches!(check(|p| p.id = 0), Violation::WrongId { .. }));
        assert!(matches!(check(|p| p.id = REQUEST_ID_MAX + 1), Violation::WrongId { .. }));
        assert!(matches!(
            check(|p| {
                p.kind = Kind::Close.number();
                p.body_len = 0;
            }),
            Violation::WrongId { .. }
        ));
    }
}
