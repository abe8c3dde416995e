//! Owns: hyper, while it converses. Receives: the phases of the daemon, the clock. Sends: hyper on its way. Ends when:
//! hyper is done, the peer has left or was waited for too long, or nothing is left in a drain. Never: reads or writes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::Service;
use hyper::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use windlass_actors::{Alarm, LINGER, Phase};

use super::hush::Hush;
use super::problem::Problem;
use super::service::Answer;
use super::visit::Visit;
use super::wire::{State, Wire};

/// How often it is looked whether a peer has left where hyper does not see it.
const LEFT_PERIOD: Duration = Duration::from_millis(100);

/// How often hyper is polled in one turn because of the clock; others come first then.
const LOOKS_MAX: usize = 8;

/// What is still read of a peer that does not stop sending when the drain begins, bytes.
const DRAIN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How a conversation ended.
pub(super) enum End {
    /// Everything is said and written.
    Said,
    /// The peer cannot be talked to any more.
    Lost,
    /// This is still to be said.
    Words(Problem),
}

pub(super) fn slow_head() -> Problem {
    let detail = "no whole head of a request came; timeouts.handshake passed";
    Problem::of_http(StatusCode::REQUEST_TIMEOUT, detail)
}

/// hyper, speaking one version of HTTP.
pub(super) trait Conversation {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    /// No request after those that were read.
    fn say_goodbye(&mut self);
}

type Http1<'w, S> = http1::Connection<TokioIo<&'w mut Wire>, S>;
type Http2<'w, S> = http2::Connection<TokioIo<&'w mut Wire>, S, TokioExecutor>;

impl<S> Conversation for Http1<'_, S>
where
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible>,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), context)
    }

    fn say_goodbye(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

impl<S> Conversation for Http2<'_, S>
where
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible, Future: Send + 'static>,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), context)
    }

    fn say_goodbye(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// A conversation, the clock and the phases of the daemon.
pub(super) struct Converse<'c, C> {
    conversation: &'c mut C,
    visit: &'c Visit,
    version: Version,
    alarm: Alarm,
    hush: Hush,
    said_goodbye: Option<Instant>,
    /// When the peer's leaving is looked for next.
    look_at: Option<Instant>,
}

impl<'c, C: Conversation> Converse<'c, C> {
    pub(super) fn new(conversation: &'c mut C, visit: &'c Visit, version: Version) -> Self {
        let alarm = visit.hall.alarm();
        Self { conversation, visit, version, alarm, hush: Hush::default(), said_goodbye: None, look_at: None }
    }

    /// Until hyper is done, or somebody was waited for too long.
    pub(super) async fn run(mut self) -> Result<hyper::Result<()>, End> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<hyper::Result<()>, End>> {
        if self.alarm.poll_phase(context, Phase::Draining).is_ready() {
            self.begin_to_drain();
        }
        for _ in 0..LOOKS_MAX {
            if let Poll::Ready(ended) = self.poll_hyper(context) {
                return Poll::Ready(Ok(ended));
            }
            let visit = self.visit;
            let mut state = visit.pace.state();
            if state.left && self.version < Version::HTTP_2 {
                // Its jobs go with the conversation.
                return Poll::Ready(Err(End::Said));
            }
            if self.may_leave(&state) {
                drop(state);
                self.said_goodbye = Some(Instant::now());
                self.conversation.say_goodbye();
                continue;
            }
            let due = self.next_due(&mut state);
            drop(state);
            ready!(self.alarm.poll_time(context, due));
            if let Err(end) = self.expire() {
                return Poll::Ready(Err(end));
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_hyper(&mut self, context: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        if self.version == Version::HTTP_2 {
            // Its requests are tasks of their own.
            return self.conversation.poll(context);
        }
        self.conversation.poll(&mut Context::from_waker(self.hush.waker(context)))
    }

    fn begin_to_drain(&self) {
        let mut state = self.visit.pace.state();
        if state.drained.is_none() {
            state.drained = Some(0);
            // It has to be found out anew, from the kernel.
            state.starved = false;
        }
    }

    /// Whether the drain has begun and everything that arrived before it is answered; notes when it is read.
    fn may_leave(&self, state: &State) -> bool {
        let Some(drained) = state.drained.filter(|_| self.said_goodbye.is_none()) else { return false };
        if state.starved || drained > DRAIN_BYTES_MAX {
            self.visit.hall.close();
        }
        // HTTP/2 says by itself which requests it still answers.
        let is_done = self.version == Version::HTTP_2 || (state.rests() && state.starved);
        self.visit.hall.is_closed() && is_done
    }

    fn next_due(&mut self, state: &mut State) -> Option<Instant> {
        if !state.blocked && self.visit.hall.unwritten_bytes() == 0 {
            state.writing = None;
        } else if state.writing.is_none() {
            state.writing = Some((Instant::now(), 0));
        }
        let is_blind = state.is_blind() && self.version < Version::HTTP_2;
        self.look_at = is_blind.then(|| self.look_at.unwrap_or_else(|| Instant::now() + LEFT_PERIOD));
        if state.serving > 0 && state.writing.is_none() && !is_blind {
            // The request has its own clock.
            return None;
        }
        let timeouts = self.visit.hall.timeouts();
        let write = state.writing.map(|(since, _)| since + timeouts.write);
        let head = state.head_since.filter(|_| self.version < Version::HTTP_2);
        let read = match (self.said_goodbye, head) {
            _ if state.serving > 0 => None,
            (Some(since), _) if state.rests() => Some(since.max(state.rested_since) + LINGER),
            // Who still takes the last answer has the time to take it.
            (Some(_), _) => state.writing.is_none().then(|| Instant::now() + LINGER),
            (None, Some(since)) => Some(since + timeouts.handshake),
            (None, None) => Some(state.rested_since + timeouts.idle),
        };
        [write, read, self.look_at].into_iter().flatten().min()
    }

    fn expire(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let timeouts = self.visit.hall.timeouts();
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
