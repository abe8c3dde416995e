//! Owns: one connection from its first byte to its last. Receives: the phases of the daemon, the clock. Sends: hyper
//! on its way. Ends when: hyper is done and the peer has read it, a timeout passes, or nothing is left in a drain.
//! Never: reads a body, or waits for a worker.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::header::TRANSFER_ENCODING;
use hyper::server::conn::{http1, http2};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::time::Sleep;
use windlass_actors::{Hall, LINGER, Phase, Stream};

use super::problem::Problem;
use super::service::Service;
use super::wire::{Beginning, OwnWords, Pace, Wire};
use crate::guard::Hosts;

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest head of a request, and the most that is read at a time, bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What one stream, and all streams of a connection, may send before a body is asked for, bytes: HTTP/2 lets a peer
/// begin a body without waiting for anybody.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// How often it is looked whether a peer has left where hyper does not see it.
const LEFT_PERIOD: Duration = Duration::from_millis(100);

/// What is still read of a peer that does not stop sending when the drain begins, bytes.
const DRAIN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// What the requests of one connection share.
pub(super) struct Visit {
    pub(super) hall: Arc<Hall>,
    pub(super) hosts: Hosts,
    /// The address by which the connection came in.
    pub(super) here: Option<IpAddr>,
    pace: Arc<Pace>,
}

impl Visit {
    /// Whether the answer that is about to be given is the last on its connection: a drain has begun, and nothing
    /// that was read is left.
    pub(super) fn is_last(&self) -> bool {
        let state = self.pace.state();
        state.drained.is_some() && state.starved
    }

    /// Whether a request says twice how long its body is, which two readers may read differently (RFC 9112 §11.2).
    pub(super) fn has_both_lengths(&self, request: &Request<Incoming>) -> bool {
        request.version() < Version::HTTP_2
            && request.headers().contains_key(TRANSFER_ENCODING)
            && self.pace.state().says_length
    }
}

/// A request that is being answered.
pub(super) struct Serving(Arc<Visit>);

impl Serving {
    pub(super) fn begin(visit: Arc<Visit>) -> Self {
        let mut state = visit.pace.state();
        state.serving += 1;
        state.head_since = None;
        state.owing = true;
        drop(state);
        Self(visit)
    }

    pub(super) fn visit(&self) -> &Visit {
        &self.0
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let mut state = self.0.pace.state();
        state.serving -= 1;
        state.owing = true;
        if state.serving == 0 {
            state.rested_since = Instant::now();
        }
    }
}

/// A request whose job is somebody's to wait for.
pub(super) struct Working(Arc<Visit>);

impl Working {
    pub(super) fn begin(visit: Arc<Visit>) -> Self {
        visit.pace.state().working += 1;
        Self(visit)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.pace.state().working -= 1;
    }
}

/// How a conversation ended.
enum End {
    /// Everything is said and written.
    Said,
    /// The peer cannot be talked to any more.
    Lost,
    /// This is still to be said.
    Words(Problem),
}

/// The whole life of a connection.
pub(super) async fn run(stream: Stream, hall: Hall, hosts: Hosts) {
    let hall = Arc::new(hall);
    let pace = Arc::new(Pace::new());
    let here = stream.local_address().map(|local| local.ip());
    let visit = Arc::new(Visit { hall: Arc::clone(&hall), hosts, here, pace: Arc::clone(&pace) });
    let mut wire = Wire::new(stream, pace);
    let end = match begin(&mut wire, &visit).await {
        Ok(Beginning::Preface) => speak_http2(&mut wire, &visit).await,
        Ok(Beginning::Other) => speak_http1(&mut wire, &visit).await,
        Ok(Beginning::Nothing) => End::Said,
        Err(end) => end,
    };
    drop(visit);
    let stream = wire.into_stream();
    match end {
        End::Said => part(stream, &hall, None).await,
        End::Words(problem) => {
            hall.refused(problem.code);
            part(stream, &hall, Some(problem)).await;
        }
        End::Lost => tracing::debug!(connection = hall.connection(), "connection lost"),
    }
}

async fn part(mut stream: Stream, hall: &Hall, problem: Option<Problem>) {
    let settings = hall.settings();
    let said = async {
        if let Some(problem) = problem {
            tracing::debug!(
                connection = hall.connection(),
                status = problem.status.as_u16(),
                detail = %problem.detail,
                "connection ends"
            );
            stream.write_all(&problem.to_words()).await?;
        }
        stream.part(hall).await
    };
    match tokio::time::timeout(settings.timeouts.write, said).await {
        Ok(Ok(())) => tracing::debug!(connection = hall.connection(), "connection closed"),
        Ok(Err(error)) => tracing::debug!(connection = hall.connection(), %error, "connection lost"),
        Err(_) => tracing::debug!(connection = hall.connection(), "the peer does not read its last answer"),
    }
}

/// Waits for the first bytes; until then a connection costs no buffer.
async fn begin(wire: &mut Wire, visit: &Visit) -> Result<Beginning, End> {
    let until = Instant::now() + visit.hall.settings().timeouts.handshake;
    let mut phase = visit.hall.phase();
    let drains = async { drop(phase.wait_for(|phase| *phase >= Phase::Draining).await) };
    let begun = tokio::select! {
        biased;
        beginning = wire.begins_with(HTTP2_PREFACE) => Some(beginning),
        () = drains => None,
        () = tokio::time::sleep_until(until.into()) => {
            return Err(if wire.has_read() { End::Words(slow_head()) } else { End::Said });
        }
    };
    let beginning = match begun {
        Some(beginning) => beginning,
        None => {
            // Looks once more, at what the kernel has.
            visit.pace.state().drained = Some(0);
            match tokio::time::timeout(Duration::ZERO, wire.begins_with(HTTP2_PREFACE)).await {
                Ok(beginning) => beginning,
                Err(_) if wire.has_read() => Ok(Beginning::Other),
                Err(_) => Ok(Beginning::Nothing),
            }
        }
    };
    beginning.map_err(|_| End::Lost)
}

fn slow_head() -> Problem {
    let detail = "no whole head of a request came; timeouts.handshake passed";
    Problem::of_http(StatusCode::REQUEST_TIMEOUT, detail)
}

/// hyper, speaking one version of HTTP.
trait Conversation {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// No request after those that were read.
    fn say_goodbye(&mut self);
}

type Http1<'w> = http1::Connection<TokioIo<&'w mut Wire>, Service>;
type Http2<'w> = http2::Connection<TokioIo<&'w mut Wire>, Service, TokioExecutor>;

impl Conversation for Http1<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), context)
    }

    fn say_goodbye(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl Conversation for Http2<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), context)
    }

    fn say_goodbye(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

async fn speak_http1(wire: &mut Wire, visit: &Arc<Visit>) -> End {
    visit.pace.state().own_words = OwnWords::Hold;
    let service = Service { visit: Arc::clone(visit) };
    let mut conversation = Box::new(
        http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(wire), service),
    );
    let said = Converse::new(&mut *conversation, visit, Version::HTTP_11).run().await;
    let own_words = visit.pace.state().own_words;
    match (said, own_words) {
        (Err(end), _) => end,
        (Ok(_), OwnWords::HeldBack(status)) => {
            let unread = conversation.into_parts().read_buf;
            End::Words(unreadable(status, &unread))
        }
        (Ok(Ok(())), _) => End::Said,
        (Ok(Err(error)), _) => {
            tracing::debug!(connection = visit.hall.connection(), %error, "conversation broken off");
            if error.is_parse() { End::Words(unreadable(400, b"\n")) } else { End::Said }
        }
    }
}

/// What hyper answers to a head that it cannot read, in our words.
fn unreadable(status: u16, head: &[u8]) -> Problem {
    let (status, detail) = match status {
        431 if !head.contains(&b'\n') => (StatusCode::URI_TOO_LONG, "the target of the request is too long"),
        431 => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too many or too large"),
        414 => (StatusCode::URI_TOO_LONG, "the target of the request is too long"),
        _ => (StatusCode::BAD_REQUEST, "this is not a request of HTTP/1.1"),
    };
    Problem::of_http(status, detail)
}

async fn speak_http2(wire: &mut Wire, visit: &Arc<Visit>) -> End {
    let limits = visit.hall.settings().limits.clone();
    let service = Service { visit: Arc::clone(visit) };
    let mut conversation = Box::new(
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(limits.in_flight_per_connection.get())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("64 KiB fit"))
            .serve_connection(TokioIo::new(wire), service),
    );
    match Converse::new(&mut *conversation, visit, Version::HTTP_2).run().await {
        Err(End::Words(_)) => End::Said,
        Err(end) => end,
        Ok(Ok(())) => End::Said,
        Ok(Err(error)) => {
            tracing::debug!(connection = visit.hall.connection(), %error, "conversation broken off");
            End::Said
        }
    }
}

/// A conversation, the clock and the phases of the daemon.
struct Converse<'c, C> {
    conversation: &'c mut C,
    visit: &'c Visit,
    version: Version,
    timer: Pin<Box<Sleep>>,
    said_goodbye: Option<Instant>,
    /// When the peer's leaving is looked for next.
    look_at: Option<Instant>,
}

impl<'c, C: Conversation> Converse<'c, C> {
    fn new(conversation: &'c mut C, visit: &'c Visit, version: Version) -> Self {
        let first_look = Instant::now() + visit.hall.settings().timeouts.handshake;
        let timer = Box::pin(tokio::time::sleep_until(first_look.into()));
        Self { conversation, visit, version, timer, said_goodbye: None, look_at: None }
    }

    /// Until hyper is done, or somebody was waited for too long.
    async fn run(mut self) -> Result<hyper::Result<()>, End> {
        let mut phase = self.visit.hall.phase();
        let mut changes = true;
        loop {
            if *phase.borrow_and_update() >= Phase::Draining {
                changes = false;
                let mut state = self.visit.pace.state();
                if state.drained.is_none() {
                    state.drained = Some(0);
                    // It has to be found out anew, from the kernel.
                    state.starved = false;
                }
            }
            tokio::select! {
                biased;
                changed = phase.changed(), if changes => changes = changed.is_ok(),
                ended = poll_fn(|context| self.poll(context)) => return ended,
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<hyper::Result<()>, End>> {
        loop {
            if let Poll::Ready(ended) = self.conversation.poll(context) {
                return Poll::Ready(Ok(ended));
            }
            if self.visit.pace.state().left && self.version < Version::HTTP_2 {
                // Its jobs go with the conversation.
                return Poll::Ready(Err(End::Said));
            }
            if self.may_leave() {
                self.said_goodbye = Some(Instant::now());
                self.conversation.say_goodbye();
                continue;
            }
            match self.poll_clock(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(end)) => return Poll::Ready(Err(end)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Whether the drain has begun and everything that arrived before it is answered; notes when it is read.
    fn may_leave(&self) -> bool {
        let state = self.visit.pace.state();
        let Some(drained) = state.drained.filter(|_| self.said_goodbye.is_none()) else { return false };
        if state.starved || drained > DRAIN_BYTES_MAX {
            self.visit.hall.close();
        }
        // HTTP/2 says by itself which requests it still answers.
        let is_done = self.version == Version::HTTP_2 || (state.rests() && state.starved);
        self.visit.hall.is_closed() && is_done
    }

    /// Looks at the clock. Ready when something was due and is done.
    fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<Result<(), End>> {
        let Some(due) = self.next_due() else { return Poll::Pending };
        // An armed timer that is too early only costs a look; one that is too late would miss what is due.
        if self.timer.deadline().into_std() > due || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        if Instant::now() >= due { Poll::Ready(self.expire()) } else { Poll::Ready(Ok(())) }
    }

    fn next_due(&mut self) -> Option<Instant> {
        let settings = self.visit.hall.settings();
        let timeouts = &settings.timeouts;
        let mut state = self.visit.pace.state();
        if !state.blocked && self.visit.hall.unwritten_bytes() == 0 {
            state.writing = None;
        } else if state.writing.is_none() {
            state.writing = Some((Instant::now(), 0));
        }
        let is_blind = state.is_blind() && self.version < Version::HTTP_2;
        self.look_at = is_blind.then(|| self.look_at.unwrap_or_else(|| Instant::now() + LEFT_PERIOD));
        let write = state.writing.map(|(since, _)| since + timeouts.write);
        let head = state.head_since.filter(|_| self.version < Version::HTTP_2);
        let read = match (self.said_goodbye, head) {
            _ if state.serving > 0 => None,
            (Some(since), _) => Some(since.max(state.rested_since) + LINGER),
            (None, Some(since)) => Some(since + timeouts.handshake),
            (None, None) => Some(state.rested_since + timeouts.idle),
        };
        [write, read, self.look_at].into_iter().flatten().min()
    }

    fn expire(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let settings = self.visit.hall.settings();
        let timeouts = &settings.timeouts;
        // hyper is polled once more after this, and that looks.
        self.look_at = self.look_at.filter(|look_at| now < *look_at);
        let state = self.visit.pace.state();
        if state.writing.is_some_and(|(since, _)| now >= since + timeouts.write) {
            tracing::info!(
                connection = self.visit.hall.connection(),
                "connection closed: the client does not read its answers"
            );
            return Err(End::Lost);
        }
        if state.serving > 0 {
            return Ok(());
        }
        if let Some(since) = self.said_goodbye {
            let is_over = state.rests() && now >= since.max(state.rested_since) + LINGER;
            return if is_over { Err(End::Said) } else { Ok(()) };
        }
        match state.head_since.filter(|_| self.version < Version::HTTP_2) {
            Some(since) if now >= since + timeouts.handshake => Err(End::Words(slow_head())),
            None if now >= state.rested_since + timeouts.idle => {
                drop(state);
                self.said_goodbye = Some(Instant::now());
                self.conversation.say_goodbye();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_without_an_end_of_line_is_a_target_that_is_too_long() {
        assert_eq!(unreadable(431, b"POST /aaaa").status, StatusCode::URI_TOO_LONG);
        assert_eq!(unreadable(431, b"POST /aaaa HTTP/1.1\r\nx: y").status.as_u16(), 431);
        assert_eq!(unreadable(400, b"").status, StatusCode::BAD_REQUEST);
    }
}
