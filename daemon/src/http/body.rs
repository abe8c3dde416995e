//! The body of a request, read with its ticket in hand, into the memory that the worker will use.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::{StatusCode, Version};
use windlass_actors::operation::{Input, Secrecy};
use windlass_actors::{Failure, Impatience, Ticket};
use windlass_protocol::limits::SKIP_BYTES_MAX;
use zeroize::{Zeroize, Zeroizing};

use super::hush::poll_frame;
use super::problem::Problem;

/// What is made room for at once when only the end of a body will tell its length.
const GROW_BYTES: u64 = 64 * 1024;

/// What a peer has to send within `timeouts.read` to count as making progress, unless it is less that is missing.
const PROGRESS_BYTES: usize = 64 * 1024;

/// How long a refused body is waited for.
const SKIP_TIME_MAX: Duration = Duration::from_millis(250);

/// A request that ends before its body is read.
pub(super) struct Refused {
    pub(super) problem: Problem,
    pub(super) rest: Rest,
}

/// What still comes of the body of a request that ends early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rest {
    /// May be skipped.
    Skippable,
    /// Is nothing that anybody waits for.
    Lost,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem, rest: Rest::Lost }
    }
}

/// The memory of a body.
enum Memory {
    Open(Vec<u8>),
    Secret(Zeroizing<Vec<u8>>),
}

impl Memory {
    fn new(secrecy: Secrecy, capacity: usize) -> Self {
        match secrecy {
            Secrecy::Open => Self::Open(Vec::with_capacity(capacity)),
            Secrecy::Secret => Self::Secret(Zeroizing::new(Vec::with_capacity(capacity))),
        }
    }

    fn bytes(&self) -> &Vec<u8> {
        match self {
            Self::Open(bytes) => bytes,
            Self::Secret(bytes) => bytes,
        }
    }

    /// Moves to memory of exactly this size; what a secret leaves behind is wiped.
    fn grow(&mut self, capacity: usize) {
        match self {
            Self::Open(bytes) => bytes.reserve_exact(capacity - bytes.len()),
            Self::Secret(bytes) => {
                let mut grown = Zeroizing::new(Vec::with_capacity(capacity));
                grown.extend_from_slice(bytes);
                *bytes = grown;
            }
        }
    }

    fn append(&mut self, piece: Bytes) {
        match self {
            Self::Open(bytes) => bytes.extend_from_slice(&piece),
            Self::Secret(bytes) => {
                bytes.extend_from_slice(&piece);
                // hyper's own buffer is wiped where nothing else is in it.
                if let Ok(mut piece) = piece.try_into_mut() {
                    piece.zeroize();
                }
            }
        }
    }
}

impl From<Memory> for Input {
    fn from(memory: Memory) -> Self {
        match memory {
            Memory::Open(bytes) => Self::Shared(bytes.into()),
            Memory::Secret(bytes) => Self::Secret(bytes),
        }
    }
}

/// Reads the whole body, and says when that was. Polling it for the first time is what answers `Expect: 100-continue`.
///
/// # Errors
///
/// Why the request ends here; it is answered.
pub(super) async fn read(
    ticket: &mut Ticket,
    body: &mut Incoming,
    version: Version,
    received_at: Instant,
) -> Result<(Input, Instant), Refused> {
    let mut reading = Reading::new(ticket, body, received_at);
    poll_fn(|context| reading.poll(context, ticket, body, version)).await?;
    let read_at = if reading.has_waited { Instant::now() } else { received_at };
    Ok((reading.memory.into(), read_at))
}

/// A body on its way.
struct Reading {
    memory: Memory,
    /// What was admitted, bytes.
    room: u64,
    /// Since when less than [`PROGRESS_BYTES`] have come.
    since: Instant,
    /// What has come since.
    progress: usize,
    /// Whether it was not all there with the head.
    has_waited: bool,
}

impl Reading {
    fn new(ticket: &Ticket, body: &Incoming, since: Instant) -> Self {
        let room = body.size_hint().exact().unwrap_or(0);
        // Nothing is allocated before something comes: a head may promise much.
        let memory = Memory::new(ticket.secrecy(), 0);
        Self { memory, room, since, progress: 0, has_waited: false }
    }

    /// Ready when all of it is in memory.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        ticket: &mut Ticket,
        body: &mut Incoming,
        version: Version,
    ) -> Poll<Result<(), Refused>> {
        loop {
            let Poll::Ready(frame) = poll_frame(body, context) else {
                self.has_waited = true;
                let until = self.since + ticket.settings().timeouts.read;
                let impatience = ready!(ticket.poll_patience(context, until));
                return Poll::Ready(Err(ended(ticket, impatience).into()));
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(broken(ticket, version, &error).into())),
                Some(Ok(Ok(piece))) => self.take(ticket, piece)?,
                // Trailers say nothing here.
                Some(Ok(Err(_))) => {}
            }
            if body.is_end_stream() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn take(&mut self, ticket: &mut Ticket, piece: Bytes) -> Result<(), Refused> {
        self.progress += piece.len();
        if self.progress >= PROGRESS_BYTES {
            (self.since, self.progress) = (Instant::now(), 0);
        }
        let needed = (self.memory.bytes().len() + piece.len()) as u64;
        if needed > self.room {
            self.room = make_room(ticket, needed, self.room).map_err(|failure| {
                ticket.fail(&failure);
                Refused { problem: Problem::from(&failure), rest: Rest::Skippable }
            })?;
        }
        let capacity = usize::try_from(self.room).unwrap_or(usize::MAX);
        if self.memory.bytes().capacity() < capacity {
            self.memory.grow(capacity);
        }
        self.memory.append(piece);
        Ok(())
    }
}

/// Twice the room if that is to be had, else what is needed.
fn make_room(ticket: &mut Ticket, needed: u64, room: u64) -> Result<u64, Failure> {
    let limit = ticket.settings().limits.body_bytes_max;
    let wanted = room.saturating_mul(2).max(GROW_BYTES).min(limit);
    if wanted > needed && ticket.try_grow(wanted).is_ok() {
        return Ok(wanted);
    }
    ticket.try_grow(needed).map(|()| needed)
}

fn broken(ticket: &mut Ticket, version: Version, error: &hyper::Error) -> Problem {
    let problem =
        Problem::of_http(StatusCode::BAD_REQUEST, format!("the body cannot be read: {error}")).and_close();
    // In HTTP/2 the stream is reset, or all of the connection is gone: nobody can be told.
    if version < Version::HTTP_2 {
        // Whoever ended its side in the middle may still read.
        ticket.fail(&Failure::refused(problem.code, problem.detail.clone()));
    }
    problem
}

/// What is told of a body that is waited for no longer.
fn ended(ticket: &mut Ticket, impatience: Impatience) -> Problem {
    match impatience {
        Impatience::Late => {
            let detail = "no progress within the body; timeouts.read passed";
            let problem = Problem::of_http(StatusCode::REQUEST_TIMEOUT, detail).and_close();
            ticket.fail(&Failure::refused(problem.code, detail));
            problem
        }
        Impatience::Stopped(failure) => {
            ticket.fail(&failure);
            Problem::from(&failure).and_close()
        }
    }
}

/// Whether the rest of a refused body was thrown away, so that the connection can be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Skipped {
    Whole,
    /// The peer is still sending.
    Partly,
}

/// Throws a refused body away where that costs little, for a peer that reads no answer before it has sent all of it.
pub(super) async fn skip(body: &mut Incoming) -> Skipped {
    if body.is_end_stream() {
        return Skipped::Whole;
    }
    if body.size_hint().lower() > SKIP_BYTES_MAX {
        return Skipped::Partly;
    }
    let until = Instant::now() + SKIP_TIME_MAX;
    let mut skipped = 0;
    loop {
        match tokio::time::timeout_at(until.into(), body.frame()).await {
            Ok(None) => return Skipped::Whole,
            Ok(Some(Ok(frame))) => skipped += frame.data_ref().map_or(0, Bytes::len) as u64,
            Ok(Some(Err(_))) | Err(_) => return Skipped::Partly,
        }
        if skipped > SKIP_BYTES_MAX {
            return Skipped::Partly;
        }
    }
}
