//! What a connection has to say and its peer has not taken yet.
//!
//! Small frames are gathered into one piece, large bodies stay where the worker put them; all of it leaves in
//! vectored writes. What an answer holds is freed when its last byte is written.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use serde::Serialize;
use windlass_protocol::{Kind, PREFIX_BYTES, append_frame, append_frame_head};

use super::stream::Stream;
use crate::dispatch::{Answers, HeldBytes};

/// Bodies up to this size are copied behind their head: cheaper than a piece of their own.
const COPY_BYTES_MAX: usize = 4096;

/// A gathered piece that has grown to this size is followed by another. A piece is freed when it is written whole, so a
/// peer that reads a little slower than it asks must not make one piece grow for ever.
const GATHER_BYTES_MAX: usize = 64 * 1024;

/// What the head of an answer takes as a rule, bytes.
const HEAD_BYTES: usize = PREFIX_BYTES + 16;

/// Most pieces of one vectored write.
const SLICES_MAX: usize = 32;

/// Frames on their way out.
#[derive(Default)]
pub(crate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Written already of the first piece.
    written: usize,
    bytes: usize,
    /// What the next piece to gather in will probably take, bytes.
    expected: usize,
}

struct Piece {
    content: Content,
    held: Option<HeldBytes>,
}

enum Content {
    Gathered(Vec<u8>),
    Body(Bytes),
}

impl Content {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Gathered(bytes) => bytes,
            Self::Body(bytes) => bytes,
        }
    }
}

impl Outbox {
    /// Adds raw bytes, such as the preface.
    pub(crate) fn push_raw(&mut self, bytes: &[u8]) {
        self.gather(|out| out.extend_from_slice(bytes));
    }

    /// Adds a frame with a small body or none.
    pub(crate) fn push_frame(&mut self, kind: Kind, id: u64, header: &impl Serialize, body: &[u8]) {
        self.gather(|out| append_frame(out, kind, id, header, body));
    }

    /// Adds a frame with the output of a job, and what that holds.
    ///
    /// # Panics
    ///
    /// If the body is longer than a frame can say; the output limit of every connection is below that.
    pub(crate) fn push_answer(
        &mut self,
        kind: Kind,
        id: u64,
        header: &impl Serialize,
        body: Bytes,
        held: HeldBytes,
    ) {
        if body.len() <= COPY_BYTES_MAX {
            self.gather(|out| append_frame(out, kind, id, header, &body));
            self.hold(held);
        } else {
            let body_len = u32::try_from(body.len()).expect("the output limit of a connection fits a frame");
            self.gather(|out| append_frame_head(out, kind, id, header, body_len));
            self.bytes += body.len();
            self.pieces.push_back(Piece { content: Content::Body(body), held: Some(held) });
        }
    }

    /// Says what is about to be pushed, so that what is gathered does not grow step by step.
    pub(crate) fn expect(&mut self, answers: &Answers) {
        let sizes = answers.iter().map(|answer| match &answer.outcome {
            Ok(output) if output.0.len() <= COPY_BYTES_MAX => HEAD_BYTES + output.0.len(),
            _ => HEAD_BYTES,
        });
        self.expected = sizes.sum::<usize>().min(GATHER_BYTES_MAX);
    }

    fn gather(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        let has_room =
            |piece: &Piece| matches!(&piece.content, Content::Gathered(out) if out.len() < GATHER_BYTES_MAX);
        if !self.pieces.back().is_some_and(has_room) {
            let room = Vec::with_capacity(std::mem::take(&mut self.expected));
            if self.pieces.is_empty() {
                // Mostly there is no other.
                self.pieces.reserve_exact(1);
            }
            self.pieces.push_back(Piece { content: Content::Gathered(room), held: None });
        }
        let Some(Piece { content: Content::Gathered(out), .. }) = self.pieces.back_mut() else {
            unreachable!("a gathering piece was just put there")
        };
        let before = out.len();
        append(out);
        self.bytes += out.len() - before;
    }

    fn hold(&mut self, more: HeldBytes) {
        if let Some(piece) = self.pieces.back_mut() {
            match &mut piece.held {
                Some(held) => held.absorb(more),
                None => piece.held = Some(more),
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Bytes not written yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes until everything is written or the peer takes no more for now; says how much it took.
    pub(crate) fn poll_flush(
        &mut self,
        stream: &mut Stream,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let n_pieces = self.pieces.len().min(SLICES_MAX);
        let taken = if n_pieces == 1 {
            let rest = &self.pieces[0].content.as_slice()[self.written..];
            ready!(stream.poll_write(context, &[IoSlice::new(rest)]))?
        } else {
            let mut slices = std::array::from_fn::<_, SLICES_MAX, _>(|_| IoSlice::new(&[]));
            for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
                *slice = IoSlice::new(piece.content.as_slice());
            }
            slices[0] = IoSlice::new(&self.pieces[0].content.as_slice()[self.written..]);
            ready!(stream.poll_write(context, &slices[..n_pieces]))?
        };
        self.advance(taken);
        Poll::Ready(if taken == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(taken) })
    }

    fn advance(&mut self, taken: usize) {
        self.bytes -= taken;
        self.written += taken;
        while let Some(first) = self.pieces.front() {
            let len = first.content.as_slice().len();
            if self.written < len {
                return;
            }
            self.written -= len;
            self.pieces.pop_front();
        }
        // A connection that has said everything keeps no memory for what it may have to say one day.
        self.pieces = VecDeque::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_freed_even_if_the_outbox_never_empties() {
        let mut outbox = Outbox::default();
        let mut kept_max = 0;
        for _ in 0..10_000 {
            outbox.push_raw(&[7; 1000]);
            if outbox.bytes() > 2000 {
                outbox.advance(1000);
            }
            kept_max = kept_max.max(outbox.pieces.iter().map(|piece| piece.content.as_slice().len()).sum());
        }
        assert!(!outbox.is_empty());
        assert!(kept_max < 3 * GATHER_BYTES_MAX, "{kept_max} bytes kept for 2000 that are not written");
    }
}
