//! Owns: one connection from its first byte to its last. Receives: what begins it, and how the conversation on it ended.
//! Sends: hyper on its way, and last words. Ends when: the peer has read them, or was waited for too long. Never: reads a
//! body, or waits for a worker.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::{Body, Incoming};
use hyper::header::TRANSFER_ENCODING;
use hyper::server::conn::{http1, http2};
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use windlass_actors::{Hall, Phase, Stream};

use super::call::ResultHeaders;
use super::conversation::{Converse, End, slow_head};
use super::problem::Problem;
use super::service::service;
use super::wire::{Beginning, OwnWords, Pace, Wire};
use crate::guard::{Hosts, Known};

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Largest head of a request, and the most that is read at a time, bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// What one stream, and all streams of a connection, may send before a body is asked for, bytes: HTTP/2 lets a peer
/// begin a body without waiting for anybody.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What the requests of one connection share.
pub(super) struct Visit {
    pub(super) hall: Arc<Hall>,
    pub(super) hosts: Hosts,
    pub(super) known_host: Known,
    /// The address by which the connection came in.
    pub(super) here: Option<IpAddr>,
    pub(super) pace: Arc<Pace>,
    pub(super) result_headers: ResultHeaders,
}

impl Visit {
    /// Whether a request says twice how long its body is, which two readers may read differently (RFC 9112 §11.2).
    pub(super) fn has_both_lengths(&self, request: &Request<Incoming>) -> bool {
        // Where hyper goes by Transfer-Encoding, it does not know the length.
        request.version() < Version::HTTP_2
            && request.body().size_hint().exact().is_none()
            && request.headers().contains_key(TRANSFER_ENCODING)
            && self.pace.state().says_length
    }
}

/// A request that is being answered.
pub(super) struct Serving {
    visit: Arc<Visit>,
    /// When it was read.
    pub(super) received_at: Instant,
    stage: Stage,
}

/// How far a request is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its head is understood, or its body arrives. Next: [`Stage::Working`] or [`Stage::Over`].
    Reading,
    /// It is somebody's to wait for its job. Next: [`Stage::Over`].
    Working,
    /// Its answer is made.
    Over,
}

/// What follows on an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another request, maybe.
    Request,
    /// Nothing: a drain has begun, and nothing that was read is left.
    Goodbye,
}

impl Serving {
    pub(super) fn begin(visit: Arc<Visit>) -> Self {
        let mut state = visit.pace.state();
        state.serving += 1;
        state.owing = true;
        // A head that was read while another request was served has been waiting in hyper's memory.
        let received_at = state.head_since.take().map_or_else(Instant::now, |_| state.head_read_at);
        drop(state);
        Self { visit, received_at, stage: Stage::Reading }
    }

    pub(super) fn visit(&self) -> &Arc<Visit> {
        &self.visit
    }

    /// Its body is read.
    pub(super) fn begin_work(&mut self) {
        self.stage = Stage::Working;
        self.visit.pace.state().working += 1;
    }

    /// Its answer is made.
    pub(super) fn end(mut self) -> Next {
        self.note_end()
    }

    fn note_end(&mut self) -> Next {
        let mut state = self.visit.pace.state();
        if self.stage == Stage::Working {
            state.working -= 1;
        }
        if self.stage != Stage::Over {
            state.serving -= 1;
            state.owing = true;
            if state.serving == 0 {
                state.rested_since = Instant::now();
            }
        }
        self.stage = Stage::Over;
        if state.drained.is_some() && state.starved { Next::Goodbye } else { Next::Request }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.stage != Stage::Over {
            self.note_end();
        }
    }
}

/// The whole life of a connection.
pub(super) async fn run(stream: Stream, hall: Hall, hosts: Hosts, result_headers: ResultHeaders) {
    let hall = Arc::new(hall);
    let pace = Arc::new(Pace::new());
    let visit = Arc::new(Visit {
        hall: Arc::clone(&hall),
        hosts,
        known_host: Known::default(),
        here: stream.local_address().map(|local| local.ip()),
        pace: Arc::clone(&pace),
        result_headers,
    });
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

async fn speak_http1(wire: &mut Wire, visit: &Arc<Visit>) -> End {
    visit.pace.state().own_words = OwnWords::Hold;
    let mut conversation = Box::new(
        http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(wire), service(Arc::clone(visit))),
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
    let mut conversation = Box::new(
        http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(limits.in_flight_per_connection.get())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).expect("64 KiB fit"))
            .serve_connection(TokioIo::new(wire), service(Arc::clone(visit))),
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
