//! Bytes in, frames out: an incremental reader that knows no socket.
//!
//! A frame that lies whole in what was read is handed on without a copy. Only a head that is cut off is kept, and a
//! body that is still arriving is read into the memory that the worker will use. After one large request another one
//! is expected, and read into such memory with its head before it.

use windlass_protocol::{Kind, KindNumber, PREFACE, PREFIX_BYTES, Prefix, Violation};
use zeroize::Zeroizing;

/// Bodies that are read where they stay. Of smaller ones a read delivers several, which cross the bridge together.
const IN_PLACE_BYTES_MIN: usize = 32 * 1024;

/// Largest frame that is expected after another of its size. Of larger ones the part that is copied is small.
const EXPECTED_BYTES_MAX: usize = 4 << 20;

/// Room behind a body. A read that leaves some of it has emptied the socket, which saves asking it again; one that
/// fills it has the head of the next request.
const SPARE_BYTES: usize = 256;

/// What the memory of a body that was read with its head may have besides the body, in front of it and behind it, each.
const BESIDES_BYTES_MAX: usize = 2 * SPARE_BYTES;

/// Reads one connection's bytes.
pub(crate) struct Inbound<B> {
    state: State<B>,
    /// The start of a head that is not complete.
    partial: Vec<u8>,
    /// Largest frame of an unknown kind that is skipped.
    frame_bytes_max: u32,
    /// What was read and has to wait until the peer has taken some of its answers, or others have had their turn.
    aside: Vec<u8>,
    /// Whether `partial` was handed out as an item and is to be forgotten.
    handed_out: bool,
    /// Bytes of the last request's frame, if the next one like it is to be read in place; else 0.
    expected: u32,
}

/// What the next byte belongs to.
enum State<B> {
    /// Next: [`State::Head`].
    Preface,
    /// Next: itself, [`State::Body`] or [`State::Skip`].
    Head,
    /// Next: [`State::Head`].
    Body(Arriving<B>),
    /// Next: [`State::Head`].
    Skip(u64),
}

/// A body that is still coming, with what waits for it.
pub(crate) struct Arriving<B> {
    pub(crate) waiting: B,
    pub(crate) body: Body,
    body_len: usize,
}

/// The memory of a body, little more than its length.
pub(crate) enum Body {
    /// Begins at `from`; before it is the head that it was read with.
    Open {
        bytes: Vec<u8>,
        from: usize,
    },
    Secret(Zeroizing<Vec<u8>>),
}

impl Body {
    fn bytes_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Open { bytes, .. } => bytes,
            Self::Secret(bytes) => bytes,
        }
    }
}

impl<B> Arriving<B> {
    /// Bytes of the body that are here.
    fn here(&self) -> usize {
        match &self.body {
            Body::Open { bytes, from } => bytes.len() - from,
            Body::Secret(bytes) => bytes.len(),
        }
    }

    fn missing(&self) -> usize {
        self.body_len - self.here()
    }

    /// The memory of the body, with room for all that is missing.
    fn with_room(&mut self) -> &mut Vec<u8> {
        let missing = self.missing();
        let bytes = self.body.bytes_mut();
        if bytes.capacity() - bytes.len() < missing {
            bytes.reserve_exact(missing + SPARE_BYTES);
        }
        bytes
    }
}

/// What was read.
pub(crate) enum Item<'i, 'd, B> {
    Preface,
    /// A request. Its body follows the head; when it is not whole yet, the caller says what becomes of it with
    /// [`Inbound::arrive`] or [`Inbound::skip`], else it is in `body`.
    Work {
        prefix: Prefix,
        header: &'i [u8],
        body: Option<&'d [u8]>,
    },
    Frame(Frame<'i>),
    /// The body that [`Inbound::arrive`] waited for.
    Arrived(Arriving<B>),
}

/// Any frame of version 1 but Work; only Ping and Pong have their body with them, others are skipped.
pub(crate) struct Frame<'i> {
    pub(crate) kind: Kind,
    pub(crate) prefix: Prefix,
    pub(crate) header: &'i [u8],
    pub(crate) body: &'i [u8],
}

/// Bytes that are not the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misread {
    /// The first bytes are not the preface.
    NotThePreface,
    /// Nor are they, but whoever sent them means HTTP.
    LikeHttp,
    Violation(Violation),
}

impl<B> Inbound<B> {
    pub(crate) fn new(frame_bytes_max: u32) -> Self {
        Self {
            state: State::Preface,
            partial: Vec::new(),
            frame_bytes_max,
            aside: Vec::new(),
            handed_out: false,
            expected: 0,
        }
    }

    /// Whether the next byte would start something new.
    pub(crate) fn at_boundary(&self) -> bool {
        matches!(self.state, State::Head)
            && (self.partial.is_empty() || self.handed_out)
            && self.aside.is_empty()
    }

    /// Keeps what was read but not taken apart, after what was kept before; it comes before whatever is read next.
    pub(crate) fn set_aside(&mut self, data: &[u8]) {
        self.aside.extend_from_slice(data);
    }

    /// What was set aside, if anything.
    pub(crate) fn take_aside(&mut self) -> Option<Vec<u8>> {
        (!self.aside.is_empty()).then(|| std::mem::take(&mut self.aside))
    }

    /// What the next byte is in the middle of, if anything.
    pub(crate) fn inside(&self) -> Option<&'static str> {
        let nothing_kept = self.partial.is_empty() || self.handed_out;
        match self.state {
            State::Preface | State::Head if nothing_kept => None,
            State::Preface => Some("the preface"),
            State::Head => Some("the head of a frame"),
            State::Body(_) | State::Skip(_) => Some("the body of a frame"),
        }
    }

    /// The memory of a body that is to be read where it stays, with how much may be read into it: at least what is
    /// missing, and a little of what follows, which [`Inbound::overrun`] gives back.
    pub(crate) fn in_place(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        match &mut self.state {
            State::Body(arriving) if arriving.missing() >= IN_PLACE_BYTES_MIN => {
                let body = arriving.with_room();
                let room = body.capacity() - body.len();
                Some((body, room))
            }
            _ => None,
        }
    }

    /// What was read into the memory of a body and comes after it.
    pub(crate) fn overrun(&mut self) -> Vec<u8> {
        match &mut self.state {
            State::Body(arriving) => {
                let over = arriving.here().saturating_sub(arriving.body_len);
                let body = arriving.body.bytes_mut();
                let end = body.len() - over;
                let overrun = body[end..].to_vec();
                body.truncate(end);
                overrun
            }
            _ => Vec::new(),
        }
    }

    /// How much room to read the next request into, with its head, if it is expected to be as large as the last one.
    pub(crate) fn expects(&self) -> Option<usize> {
        (self.expected > 0 && self.at_boundary()).then(|| self.expected as usize + SPARE_BYTES)
    }

    /// How long the head is that `ahead` begins with, if what was read is a request as it was expected: the memory is
    /// as large as it needs, and hardly larger.
    pub(crate) fn expected_head(&self, ahead: &Vec<u8>) -> Option<usize> {
        let prefix = Prefix::peek(ahead)?;
        let is_request = matches!(prefix.check(), Ok(KindNumber::Known(Kind::Work)));
        let head_len = PREFIX_BYTES + usize::from(prefix.header_len);
        let is_here = head_len <= ahead.len() && head_len <= BESIDES_BYTES_MAX;
        let spare = ahead.capacity().checked_sub(head_len + prefix.body_len as usize)?;
        (is_request && is_here && (1..=BESIDES_BYTES_MAX).contains(&spare)).then_some(head_len)
    }

    /// Takes what was read ahead for the body that is awaited since its head was taken apart, which is the first
    /// `head_len` bytes. Gives back what comes after the body.
    ///
    /// # Errors
    ///
    /// All of it, when no open body is awaited; what is behind the head has to be taken apart.
    pub(crate) fn adopt(&mut self, ahead: Vec<u8>, head_len: usize) -> Result<Vec<u8>, Vec<u8>> {
        match &mut self.state {
            State::Body(Arriving { body: Body::Open { bytes, from }, .. }) if bytes.is_empty() => {
                (*bytes, *from) = (ahead, head_len);
                Ok(self.overrun())
            }
            _ => Err(ahead),
        }
    }

    /// What waits for the body that is arriving, and how much of it is missing.
    pub(crate) fn awaited(&self) -> Option<(&B, u64)> {
        match &self.state {
            State::Body(arriving) => Some((&arriving.waiting, arriving.missing() as u64)),
            _ => None,
        }
    }

    /// Whether the next bytes may be a secret: they belong to one, or to a body that nobody takes.
    pub(crate) fn may_be_secret(&self) -> bool {
        matches!(self.state, State::Body(Arriving { body: Body::Secret(_), .. }) | State::Skip(_))
    }

    /// Waits for the body of the request handed out last. The next read may bring memory for it, with its beginning
    /// in it; see [`Inbound::adopt`].
    pub(crate) fn arrive(&mut self, waiting: B, body: Body, prefix: Prefix) {
        let body_len = prefix.body_len as usize;
        let may_repeat = matches!(body, Body::Open { .. }) && body_len >= IN_PLACE_BYTES_MIN;
        let frame_len = u32::try_from(prefix.frame_bytes()).ok();
        self.expected =
            frame_len.filter(|len| may_repeat && *len as usize <= EXPECTED_BYTES_MAX).unwrap_or(0);
        self.state = State::Body(Arriving { waiting, body, body_len });
    }

    /// Gives up the body that is arriving: what is missing of it will be skipped.
    pub(crate) fn abandon(&mut self) -> Option<B> {
        match std::mem::replace(&mut self.state, State::Head) {
            State::Body(arriving) => {
                self.skip(arriving.missing() as u64);
                Some(arriving.waiting)
            }
            state => {
                self.state = state;
                None
            }
        }
    }

    /// Skips the next `bytes`.
    pub(crate) fn skip(&mut self, bytes: u64) {
        if bytes > 0 {
            self.state = State::Skip(bytes);
        }
    }

    /// The next item in `data`, which is moved past it. `None` when `data` is used up.
    pub(crate) fn next<'i, 'd: 'i>(
        &'i mut self,
        data: &mut &'d [u8],
    ) -> Result<Option<Item<'i, 'd, B>>, Misread> {
        if self.handed_out {
            self.partial = Vec::new();
            self.handed_out = false;
        }
        let (kind, prefix) = loop {
            match &mut self.state {
                State::Preface => {
                    let complete = self.fill(data, PREFACE.len());
                    let read = &self.partial;
                    if !complete && (PREFACE.starts_with(read) || read.iter().all(u8::is_ascii_uppercase)) {
                        return Ok(None);
                    }
                    if *read != PREFACE {
                        return Err(if looks_like_http(read) {
                            Misread::LikeHttp
                        } else {
                            Misread::NotThePreface
                        });
                    }
                    self.partial = Vec::new();
                    self.state = State::Head;
                    return Ok(Some(Item::Preface));
                }
                State::Skip(left) => {
                    let skipped = data.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *data = &data[skipped..];
                    *left -= skipped as u64;
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = State::Head;
                }
                State::Body(arriving) => {
                    let missing = arriving.missing();
                    let taken = data.len().min(missing);
                    if taken > 0 {
                        arriving.with_room().extend_from_slice(&data[..taken]);
                        *data = &data[taken..];
                    }
                    if taken < missing {
                        return Ok(None);
                    }
                    if let State::Body(arriving) = std::mem::replace(&mut self.state, State::Head) {
                        return Ok(Some(Item::Arrived(arriving)));
                    }
                }
                State::Head => {
                    let Some(prefix) = self.peek_prefix(data) else { return Ok(None) };
                    match prefix.check().map_err(Misread::Violation)? {
                        KindNumber::Known(kind) => break (kind, prefix),
                        // Of a later version: the prefix goes with the rest. `check` refuses what is undefined.
                        KindNumber::Skip | KindNumber::Undefined => {
                            if prefix.frame_bytes() > u64::from(self.frame_bytes_max) {
                                return Err(Misread::Violation(Violation::FrameTooLarge {
                                    kind: "skipped",
                                    found: prefix.frame_bytes(),
                                    limit: self.frame_bytes_max,
                                }));
                            }
                            let kept = self.partial.len() as u64;
                            self.partial = Vec::new();
                            self.skip(prefix.frame_bytes() - kept);
                        }
                    }
                }
            }
        };

        let in_head = match kind {
            Kind::Ping | Kind::Pong => prefix.body_len as usize,
            _ => 0,
        };
        let head_len = PREFIX_BYTES + usize::from(prefix.header_len) + in_head;
        let head = match data.split_at_checked(head_len) {
            Some((head, rest)) if self.partial.is_empty() => {
                *data = rest;
                Some(head)
            }
            _ if self.fill(data, head_len) => {
                self.handed_out = true;
                None
            }
            _ => return Ok(None),
        };
        let whole_body = match kind {
            Kind::Work => data.split_at_checked(prefix.body_len as usize).map(|(body, rest)| {
                self.expected = 0;
                *data = rest;
                body
            }),
            _ => {
                self.skip(u64::from(prefix.body_len) - in_head as u64);
                None
            }
        };
        let head: &'i [u8] = head.unwrap_or(&self.partial);
        let (header, body) = head[PREFIX_BYTES..].split_at(usize::from(prefix.header_len));
        Ok(Some(match kind {
            Kind::Work => Item::Work { prefix, header, body: whole_body },
            _ => Item::Frame(Frame { kind, prefix, header, body }),
        }))
    }

    /// The prefix that comes next, without taking it. What is cut off is kept.
    fn peek_prefix(&mut self, data: &mut &[u8]) -> Option<Prefix> {
        if self.partial.is_empty() && data.len() >= PREFIX_BYTES {
            return Prefix::peek(data);
        }
        self.fill(data, PREFIX_BYTES);
        Prefix::peek(&self.partial)
    }

    /// Moves bytes from `data` until `len` are kept; whether they are.
    fn fill(&mut self, data: &mut &[u8], len: usize) -> bool {
        let taken = data.len().min(len.saturating_sub(self.partial.len()));
        self.partial.extend_from_slice(&data[..taken]);
        *data = &data[taken..];
        self.partial.len() >= len
    }
}

/// A method of capital letters and a space.
fn looks_like_http(bytes: &[u8]) -> bool {
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    letters > 0 && bytes.get(letters) == Some(&b' ')
}

#[cfg(test)]
mod tests;
