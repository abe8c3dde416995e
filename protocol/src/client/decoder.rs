//! Received bytes, cut into frames. Knows nothing of sockets.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{KindNumber, PREFACE, PREFIX_BYTES, Prefix};

/// Room kept for one read, bytes: many small answers arrive in one call.
const READ_BYTES: usize = 64 * 1024;

/// Most room that a prefix alone may claim before the bytes it announces arrive, bytes.
const CLAIM_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bodies from this length on are handed out as a part of the receive buffer; shorter ones are copied, so that a
/// small answer somebody keeps does not keep a whole buffer.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// The bytes of one connection that were received and not yet read.
#[derive(Debug)]
pub(super) struct Decoder {
    buffer: BytesMut,
    /// Bytes at the start of `buffer` that belong to the frame handed out last.
    consumed: usize,
    /// The frame handed out last where it left the buffer.
    large: Bytes,
    preface_seen: bool,
    frame_bytes_max: u32,
}

/// A complete frame of a kind that this version knows.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) kind: crate::Kind,
    pub(super) flags: u8,
    pub(super) id: u64,
    pub(super) header: &'a [u8],
    pub(super) body: Body<'a>,
}

/// A frame's body.
#[derive(Debug)]
pub(super) enum Body<'a> {
    Borrowed(&'a [u8]),
    Shared(Bytes),
}

impl Body<'_> {
    pub(super) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }

    pub(super) fn into_bytes(self) -> Bytes {
        match self {
            Self::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl Decoder {
    /// `frame_bytes_max` is what this side announced; a larger frame breaks the protocol.
    pub(super) fn new(frame_bytes_max: u32) -> Self {
        Self {
            buffer: BytesMut::new(),
            consumed: 0,
            large: Bytes::new(),
            preface_seen: false,
            frame_bytes_max,
        }
    }

    /// The buffer with room to read into: enough for many small frames or for the rest of a large one, but never
    /// more than a bound beyond what the peer really sent.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        self.forget_last();
        let missing = Prefix::peek(&self.buffer).filter(|_| self.preface_seen).map_or(0, |prefix| {
            usize::try_from(prefix.frame_bytes()).unwrap_or(usize::MAX).saturating_sub(self.buffer.len())
        });
        let claim = CLAIM_BYTES_MAX.max(self.buffer.len());
        self.buffer.reserve(missing.clamp(READ_BYTES, claim.max(READ_BYTES)));
        &mut self.buffer
    }

    /// Whether the stream ended inside a frame.
    pub(super) fn is_partial(&self) -> bool {
        self.buffer.len() > self.consumed
    }

    /// The next complete frame, or `None` until more was read.
    ///
    /// # Errors
    ///
    /// The rule that the peer broke; nothing after it can be read.
    pub(super) fn next(&mut self) -> Result<Option<Frame<'_>>, String> {
        self.forget_last();
        self.skip_preface()?;
        let (prefix, kind) = loop {
            if !self.preface_seen {
                return Ok(None);
            }
            let Some(prefix) = Prefix::peek(&self.buffer) else { return Ok(None) };
            let number = prefix.check().map_err(|violation| violation.to_string())?;
            if prefix.frame_bytes() > u64::from(self.frame_bytes_max) {
                return Err(format!(
                    "a frame of {} bytes is larger than the {} announced",
                    prefix.frame_bytes(),
                    self.frame_bytes_max
                ));
            }
            if (self.buffer.len() as u64) < prefix.frame_bytes() {
                return Ok(None);
            }
            match number {
                KindNumber::Known(kind) => break (prefix, kind),
                KindNumber::Skip | KindNumber::Undefined => self.buffer.advance(frame_len(&prefix)),
            }
        };
        let body_start = PREFIX_BYTES + usize::from(prefix.header_len);
        let end = frame_len(&prefix);
        let (header, body) = if end - body_start >= SHARED_BYTES_MIN {
            self.large = self.buffer.split_to(end).freeze();
            (&self.large[PREFIX_BYTES..body_start], Body::Shared(self.large.slice(body_start..)))
        } else {
            self.consumed = end;
            (&self.buffer[PREFIX_BYTES..body_start], Body::Borrowed(&self.buffer[body_start..end]))
        };
        Ok(Some(Frame { kind, flags: prefix.flags, id: prefix.id, header, body }))
    }

    fn forget_last(&mut self) {
        self.buffer.advance(self.consumed);
        self.consumed = 0;
        self.large = Bytes::new();
    }

    fn skip_preface(&mut self) -> Result<(), String> {
        if self.preface_seen {
            return Ok(());
        }
        let begun = self.buffer.len().min(PREFACE.len());
        if self.buffer[..begun] != PREFACE[..begun] {
            return Err(format!(
                "it begins with \"{}\" instead of \"WINDLASS\"",
                self.buffer[..begun].escape_ascii()
            ));
        }
        if begun == PREFACE.len() {
            self.buffer.advance(begun);
            self.preface_seen = true;
        }
        Ok(())
    }
}

/// Length of a frame that is in the buffer whole.
fn frame_len(prefix: &Prefix) -> usize {
    usize::try_from(prefix.frame_bytes()).expect("a frame in memory has a length that fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, append_frame};

    fn stream(frames: &[(Kind, u64, usize)]) -> Vec<u8> {
        let mut bytes = PREFACE.to_vec();
        for (kind, id, body) in frames {
            append_frame(&mut bytes, *kind, *id, &(), &vec![7; *body]);
        }
        bytes
    }

    #[test]
    fn frames_cut_anywhere_are_the_same_frames() {
        let frames =
            [(Kind::Info, 1, 0), (Kind::Info, 2, 5), (Kind::Info, 3, SHARED_BYTES_MIN), (Kind::Pong, 4, 1)];
        let bytes = stream(&frames);
        for step in [1, 7, 16, 17, 4096, bytes.len()] {
            let mut decoder = Decoder::new(u32::MAX);
            let mut found = Vec::new();
            for chunk in bytes.chunks(step) {
                decoder.room().extend_from_slice(chunk);
                while let Some(frame) = decoder.next().unwrap() {
                    assert!(frame.body.as_slice().iter().all(|byte| *byte == 7));
                    found.push((frame.kind, frame.id, frame.body.as_slice().len()));
                }
            }
            assert_eq!(found, frames, "in steps of {step}");
            assert!(!decoder.is_partial());
        }
    }

    #[test]
    fn a_peer_of_another_protocol_is_recognised_at_its_first_wrong_byte() {
        let mut decoder = Decoder::new(u32::MAX);
        decoder.room().extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n");
        assert_eq!(decoder.next().unwrap_err(), "it begins with \"HTTP/1.1\" instead of \"WINDLASS\"");
    }

    #[test]
    fn a_length_beyond_what_was_announced_is_refused_before_its_bytes_arrive() {
        let mut bytes = PREFACE.to_vec();
        let prefix = Prefix { kind: Kind::Info.number(), flags: 0, header_len: 0, body_len: u32::MAX, id: 1 };
        bytes.extend_from_slice(&prefix.to_bytes());
        let mut decoder = Decoder::new(1 << 20);
        decoder.room().extend_from_slice(&bytes);
        assert!(decoder.next().unwrap_err().contains("larger than the 1048576 announced"));
    }

    #[test]
    fn a_prefix_alone_claims_a_bounded_amount_of_memory() {
        let mut bytes = PREFACE.to_vec();
        let prefix = Prefix { kind: Kind::Info.number(), flags: 0, header_len: 0, body_len: 1 << 30, id: 1 };
        bytes.extend_from_slice(&prefix.to_bytes());
        let mut decoder = Decoder::new(u32::MAX);
        decoder.room().extend_from_slice(&bytes);
        assert!(decoder.next().unwrap().is_none());
        assert!(decoder.room().capacity() <= 2 * CLAIM_BYTES_MAX);
    }

    #[test]
    fn frames_of_a_later_version_are_skipped() {
        let mut bytes = PREFACE.to_vec();
        let prefix = Prefix { kind: 200, flags: 0xff, header_len: 0, body_len: 3, id: 9 };
        bytes.extend_from_slice(&prefix.to_bytes());
        bytes.extend_from_slice(b"new");
        append_frame(&mut bytes, Kind::Pong, 4, &(), b"x");
        let mut decoder = Decoder::new(u32::MAX);
        decoder.room().extend_from_slice(&bytes);
        assert_eq!(decoder.next().unwrap().unwrap().id, 4);
    }
}
