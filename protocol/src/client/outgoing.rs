//! Bytes that wait to be sent: small frames run together, large bodies lie between them without being copied.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};

use super::options::Options;
use super::request::Request;
use crate::frame::{Kind, PREFACE, append_frame, append_frame_head};
use crate::message::{Close, Extensions, Hello, Query, Work};

/// Bodies from this length on are sent from where they are.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// Most slices of one vectored write.
pub(super) const SLICES_MAX: usize = 32;

/// A queue of bytes in the order of the wire.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    chunks: VecDeque<Bytes>,
    /// What follows the last chunk.
    tail: Vec<u8>,
    /// How much of `tail` was sent; more than 0 only when there are no chunks.
    tail_sent: usize,
}

impl Outgoing {
    /// What a client sends first.
    pub(super) fn opening(options: &Options) -> Self {
        let mut outgoing = Self::default();
        outgoing.tail.extend_from_slice(&PREFACE);
        let hello = Hello {
            version_min: crate::VERSION,
            version_max: crate::VERSION,
            features: 0,
            frame_bytes_max: options.frame_bytes_announced(),
            window: 0,
            client: options.client_bounded(),
            extensions: Extensions::default(),
        };
        append_frame(&mut outgoing.tail, Kind::Hello, 0, &hello, &[]);
        outgoing
    }

    /// A request that was checked. `remaining` is what is left of its deadline.
    pub(super) fn work(&mut self, id: u64, request: &Request, remaining: Option<Duration>) {
        append_work_head(&mut self.tail, id, request, remaining);
        self.body(&request.body);
    }

    /// The body of the frame whose head was put in last.
    pub(super) fn body(&mut self, body: &Bytes) {
        if body.len() < SHARED_BYTES_MIN {
            self.tail.extend_from_slice(body);
        } else {
            let mut tail = Bytes::from(std::mem::take(&mut self.tail));
            tail.advance(std::mem::take(&mut self.tail_sent));
            self.chunks.push_back(tail);
            self.chunks.push_back(body.clone());
        }
    }

    /// Bytes that are a whole frame, or the head of one, already.
    pub(super) fn raw(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// A frame of a kind whose header has no fields.
    pub(super) fn bare(&mut self, kind: Kind, id: u64, body: &[u8]) {
        append_frame(&mut self.tail, kind, id, &(), body);
    }

    pub(super) fn query(&mut self, id: u64, subject: u16) {
        let query = Query { subject, extensions: Extensions::default() };
        append_frame(&mut self.tail, Kind::Query, id, &query, &[]);
    }

    /// The end of a session that was opened at `opened_at`, microseconds since the epoch.
    pub(super) fn close(&mut self, opened_at: u64) {
        let close = Close { opened_at, closed_at: epoch_micros(), extensions: Extensions::default() };
        append_frame(&mut self.tail, Kind::Close, 0, &close, &[]);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.tail.len() == self.tail_sent
    }

    /// Bytes of small frames that wait.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail.len() - self.tail_sent
    }

    /// Fills `slices` with the next bytes to send and says how many of them it used.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let tail = &self.tail[self.tail_sent..];
        let parts = self.chunks.iter().map(|chunk| &chunk[..]).chain(std::iter::once(tail));
        let mut used = 0;
        for (slice, part) in slices.iter_mut().zip(parts.filter(|part| !part.is_empty())) {
            *slice = IoSlice::new(part);
            used += 1;
        }
        used
    }

    /// Forgets the first `sent` bytes.
    pub(super) fn advance(&mut self, mut sent: usize) {
        while let Some(chunk) = self.chunks.front_mut() {
            if sent < chunk.len() {
                chunk.advance(sent);
                return;
            }
            sent -= chunk.len();
            self.chunks.pop_front();
        }
        self.tail_sent += sent;
        debug_assert!(self.tail_sent <= self.tail.len(), "no more is sent than there is");
        if self.tail_sent == self.tail.len() {
            self.tail.clear();
            self.tail_sent = 0;
        }
    }
}

/// Prefix and header of a Work frame.
pub(super) fn append_work_head(out: &mut Vec<u8>, id: u64, request: &Request, remaining: Option<Duration>) {
    let parameters = request.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // A deadline below a millisecond is one of a millisecond: 0 would have passed when it arrives.
    let deadline = remaining.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1));
    let work = Work {
        operation: &request.operation,
        parameters,
        sent_at: epoch_micros(),
        deadline,
        priority: request.priority.number(),
        body_total: None,
        extensions: Extensions::default(),
    };
    let body_len = u32::try_from(request.body.len()).expect("the request was checked against the limits");
    append_frame_head(out, Kind::Work, id, &work, body_len);
}

/// Now, microseconds since the Unix epoch; 0 with a clock before it.
pub(super) fn epoch_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes everything out, `step` bytes at a time.
    fn drained(mut outgoing: Outgoing, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !outgoing.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = outgoing.slices(&mut slices);
            let all: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
            let sent = all.len().min(step);
            bytes.extend_from_slice(&all[..sent]);
            outgoing.advance(sent);
        }
        bytes
    }

    fn mixed() -> Outgoing {
        let mut outgoing = Outgoing::default();
        for (id, len) in [(1, 3), (2, SHARED_BYTES_MIN), (3, 0), (4, SHARED_BYTES_MIN * 2), (5, 9)] {
            outgoing.bare(Kind::Cancel, id, &[]);
            outgoing.body(&Bytes::from(vec![u8::try_from(id).unwrap(); len]));
        }
        outgoing
    }

    #[test]
    fn bytes_leave_in_order_however_the_socket_takes_them() {
        let whole = drained(mixed(), usize::MAX);
        for step in [1, 15, 4096, 20_000] {
            assert_eq!(drained(mixed(), step), whole, "in steps of {step}");
        }
    }

    #[test]
    fn a_large_body_is_sent_from_where_it_is() {
        let body = Bytes::from(vec![0; SHARED_BYTES_MIN]);
        let mut outgoing = Outgoing::default();
        outgoing.body(&body);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        assert_eq!(outgoing.slices(&mut slices), 1);
        assert_eq!(slices[0].as_ptr(), body.as_ptr());
    }
}
