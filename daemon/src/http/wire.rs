//! Owns: the stream of one connection, lent to hyper. Receives: bytes, and what hyper writes. Sends: the same on, and
//! to [`Pace`] what can be learned from it. Ends when: hyper is done. Never: understands HTTP, beyond what the first
//! bytes of a connection and the lines of a head are.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use windlass_actors::Stream;

/// What a peer has to take within `timeouts.write` to count as making progress, unless it is less that is left.
const PROGRESS_BYTES: usize = 64 * 1024;

/// The most that is written as one piece where hyper gives several, bytes: the kernel takes longer to look at a list of
/// two than copying so little takes.
const GATHER_BYTES_MAX: usize = 1024;

/// What hyper reads from and writes to.
pub(super) struct Wire {
    stream: Stream,
    /// Read to see what is spoken, and to be read again.
    ahead: Vec<u8>,
    pace: std::sync::Arc<Pace>,
}

/// How a connection is getting on. Shared between its wire, its requests and the one who looks at the clock.
pub(super) struct Pace(Mutex<State>);

/// What [`Pace`] knows.
pub(super) struct State {
    /// Requests that have no answer yet.
    pub(super) serving: usize,
    /// Those of them whose body is read, and whose job somebody has to wait for.
    pub(super) working: usize,
    /// Whether the peer was found to have ended its side. Looked for only where hyper does not see it: see
    /// [`State::is_blind`].
    pub(super) left: bool,
    /// Whether the last thing that was done on the read side was to find nothing. hyper reads again only when all that
    /// it has read is used up, so then no request is left in its memory.
    pub(super) starved: bool,
    /// Since when the head of a request is arriving.
    pub(super) head_since: Option<Instant>,
    /// When the latest part of that head was read.
    pub(super) head_read_at: Instant,
    /// Since when no request is being answered.
    pub(super) rested_since: Instant,
    /// Bytes read since the drain began.
    pub(super) drained: Option<u64>,
    /// Since when the peer owes room, and how much it took since.
    pub(super) writing: Option<(Instant, usize)>,
    /// Whether the socket takes no more at the moment.
    pub(super) blocked: bool,
    /// Whether an answer may be in hyper's memory that is not written.
    pub(super) owing: bool,
    /// Whether a line of the head that is arriving says Content-Length.
    pub(super) says_length: bool,
    /// What may be written of hyper's own accord.
    pub(super) own_words: OwnWords,
}

/// What hyper says when no request is being answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum OwnWords {
    /// Is the protocol's business, as in HTTP/2.
    Pass,
    /// Is its answer to a head that it cannot read, without a problem document: held back. Next:
    /// [`OwnWords::HeldBack`].
    Hold,
    /// Was an answer of this status.
    HeldBack(u16),
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self(Mutex::new(State {
            serving: 0,
            working: 0,
            left: false,
            starved: false,
            head_since: None,
            head_read_at: now,
            rested_since: now,
            drained: None,
            writing: None,
            blocked: false,
            owing: false,
            says_length: false,
            own_words: OwnWords::Pass,
        }))
    }

    /// Every step under the lock is a few assignments.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether no request is being answered, and every answer is written.
    pub(super) fn rests(&self) -> bool {
        self.serving == 0 && !self.owing && !self.blocked
    }

    /// Whether hyper would not see the peer leave: it has more in its memory than the request that is being worked on,
    /// and reads on only when that is answered.
    pub(super) fn is_blind(&self) -> bool {
        self.working > 0 && !self.starved
    }

    fn read(&mut self, bytes: &[u8]) {
        self.starved = false;
        if let Some(drained) = &mut self.drained {
            *drained += bytes.len() as u64;
        }
        if self.serving == 0 {
            self.head_read_at = Instant::now();
            if self.head_since.is_none() {
                self.head_since = Some(self.head_read_at);
                self.says_length = false;
            }
            self.says_length |= has_length_line(bytes);
        }
    }

    fn note_written(&mut self, written: &Poll<io::Result<usize>>) {
        let n_bytes = match written {
            Poll::Ready(Ok(n_bytes)) => n_bytes,
            Poll::Ready(Err(_)) => return,
            Poll::Pending => {
                self.blocked = true;
                return;
            }
        };
        self.blocked = false;
        if let Some((since, taken)) = &mut self.writing {
            *taken += n_bytes;
            if *taken >= PROGRESS_BYTES {
                (*since, *taken) = (Instant::now(), 0);
            }
        }
    }

    /// Whether what hyper wants to write is not to be seen.
    fn holds_back(&mut self, words: &[u8]) -> bool {
        if self.serving > 0 || self.owing || self.own_words == OwnWords::Pass {
            return false;
        }
        if self.own_words == OwnWords::Hold {
            // `HTTP/1.1 400 Bad Request`
            let status = words.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
            let status = status.and_then(|digits| digits.parse().ok()).unwrap_or(400);
            self.own_words = OwnWords::HeldBack(status);
        }
        true
    }
}

/// Whether a line of a head begins with `content-length`; looks no further than the head.
fn has_length_line(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"content-length";
    let mut begin = 0;
    for end in memchr::memchr_iter(b'\n', bytes).chain(std::iter::once(bytes.len())) {
        let line = &bytes[begin..end];
        if line.is_empty() || line == b"\r" {
            return false;
        }
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            return true;
        }
        begin = end + 1;
    }
    false
}

impl Wire {
    pub(super) fn new(stream: Stream, pace: std::sync::Arc<Pace>) -> Self {
        Self { stream, ahead: Vec::new(), pace }
    }

    /// Reads until it is clear whether `preface` is what comes, or something else. What was read is read again.
    ///
    /// Cancel safe: what was read is kept.
    pub(super) async fn begins_with(&mut self, preface: &[u8]) -> io::Result<Beginning> {
        loop {
            if !preface.starts_with(&self.ahead) {
                return Ok(if self.ahead.starts_with(preface) {
                    Beginning::Preface
                } else {
                    Beginning::Other
                });
            }
            if self.ahead.len() == preface.len() {
                return Ok(Beginning::Preface);
            }
            let mut bytes = [0; 64];
            let n_bytes = std::future::poll_fn(|context| self.poll_bytes(context, &mut bytes)).await?;
            if n_bytes == 0 {
                return Ok(if self.ahead.is_empty() { Beginning::Nothing } else { Beginning::Other });
            }
            self.ahead.extend_from_slice(&bytes[..n_bytes]);
        }
    }

    fn poll_bytes(&mut self, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(bytes);
        ready!(self.poll_stream(context, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Whether anything was read that hyper has not seen.
    pub(super) fn has_read(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The stream, when hyper is done with it.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    fn poll_stream(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if Pin::new(&mut self.stream).poll_read(context, buffer)?.is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.pace.state();
        if state.drained.is_none() {
            state.starved = true;
            return Poll::Pending;
        }
        drop(state);
        // What has arrived before the goodbye counts, whether or not the runtime has heard of it.
        match self.stream.read_now(buffer.initialize_unfilled()) {
            Ok(n_bytes) => {
                buffer.advance(n_bytes);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.pace.state().starved = true;
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Looks whether the peer has ended its side, wherever that stands in what it has sent. hyper writes and flushes
    /// whenever it is polled, so that is when this is called. An end that stands behind more than the socket's buffer
    /// takes is not here yet; then the deadline is what ends the work.
    fn look_for_the_end(&self, context: &mut Context<'_>) {
        // This interest is that in urgent data, which no socket here is registered for, and in the end of the read side
        // alone: ready for reading is what the socket is all the time.
        let ended = match &self.stream {
            Stream::Tcp(stream) => pin!(stream.ready(Interest::PRIORITY)).poll(context).is_ready(),
            Stream::Unix(stream) => pin!(stream.ready(Interest::PRIORITY)).poll(context).is_ready(),
        };
        self.pace.state().left |= ended;
    }

    /// Writes, unless `pieces` are words that are not to be seen. Does [`Wire::look_for_the_end`] where nobody else
    /// would see it.
    fn poll_pieces(&mut self, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let n_bytes = pieces.iter().map(|piece| piece.len()).sum();
        let mut state = self.pace.state();
        let holds_back = state.holds_back(pieces.first().map_or(&[], |piece| piece));
        let (is_blind, is_waited_for) = (state.is_blind(), state.blocked || state.writing.is_some());
        drop(state);
        if is_blind {
            self.look_for_the_end(context);
        }
        if holds_back {
            return Poll::Ready(Ok(n_bytes));
        }
        let written = if pieces.len() > 1 && n_bytes <= GATHER_BYTES_MAX {
            let mut gathered = [0; GATHER_BYTES_MAX];
            let mut end = 0;
            for piece in pieces {
                gathered[end..end + piece.len()].copy_from_slice(piece);
                end += piece.len();
            }
            Pin::new(&mut self.stream).poll_write(context, &gathered[..end])
        } else {
            Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
        };
        if is_waited_for || written.is_pending() {
            self.pace.state().note_written(&written);
        }
        written
    }
}

/// What a connection begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beginning {
    Preface,
    Other,
    /// The peer has closed without a word.
    Nothing,
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if self.ahead.is_empty() {
            ready!(self.poll_stream(context, buffer))?;
        } else {
            let n_bytes = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead[..n_bytes]);
            self.ahead.drain(..n_bytes);
            if self.ahead.is_empty() {
                self.ahead = Vec::new();
            }
        }
        let read = &buffer.filled()[before..];
        if !read.is_empty() {
            self.pace.state().read(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_pieces(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_pieces(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when it has nothing left to write.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.pace.state();
        state.blocked = false;
        if state.serving == 0 {
            state.owing = false;
        }
        let is_blind = state.is_blind();
        drop(state);
        if is_blind {
            self.look_for_the_end(context);
        }
        Poll::Ready(Ok(()))
    }

    /// How a connection ends is decided by the visit, not by hyper.
    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_found_in_the_head_alone() {
        assert!(has_length_line(b"POST / HTTP/1.1\r\nCONTENT-length: 3\r\n\r\nabc"));
        assert!(!has_length_line(b"POST / HTTP/1.1\r\nx: 1\r\n\r\ncontent-length: 3\r\n"));
        assert!(!has_length_line(b"POST /?\r\nx-content-length: 3\r\n"));
        assert!(!has_length_line(b""));
    }
}
