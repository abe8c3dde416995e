//! Owns: one stream and its [`Session`]. Receives: bytes, the workers' answers, the phases of the daemon.
//! Sends: batches to the CPU world, frames to the peer. Ends when: both sides are done, the peer is gone, or a
//! timeout passes. Never: computes, blocks, or keeps a buffer while nothing is being read.

mod clock;
mod input;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::IoWorld;
use super::admit::Waiting;
use super::census::Resident;
use super::inbound::Inbound;
use super::parting::{LINGER, LINGER_MAX};
use super::session::Session;
use super::stream::{Peer, Stream};
use crate::lifecycle::Phase;
use clock::{Clock, Progress};

/// Reads before other connections of the thread get their turn.
const READS_MAX: usize = 8;

/// The actor of one connection.
pub(crate) struct Connection {
    world: Arc<IoWorld>,
    stream: Stream,
    inbound: Inbound<Box<Waiting>>,
    session: Session,
    input: InputSide,
    clock: Clock,
    /// Since when the peer owes bytes of a frame that has begun, and how many came since.
    reading: Option<Progress>,
    /// Since when the peer owes room for what is to be written, and how much it took since.
    writing: Option<Progress>,
    last_activity: Instant,
    /// Until when preface and Hello have to be here, however they arrive.
    greeted_until: Instant,
    /// Nothing was open, nothing had arrived and nothing was said for a while when the drain began.
    is_idle_in_drain: bool,
    /// The last that it has entered.
    phase: Phase,
    resident: Resident,
}

/// What is done with the peer's bytes.
#[derive(Clone, Copy)]
enum InputSide {
    /// They are frames. Next: any below.
    Frames,
    /// The last word is said: they are thrown away while it is written and read. Next: [`InputSide::Ended`].
    Discarded {
        /// Bytes thrown away.
        bytes: u64,
    },
    /// There are no more.
    Ended,
}

/// Why a connection is over without having said everything.
enum Broken {
    Io(io::Error),
    WriteTimeout,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Connection {
    pub(crate) fn new(
        world: Arc<IoWorld>,
        stream: Stream,
        peer: Peer,
        number: u64,
        resident: Resident,
    ) -> Self {
        let now = Instant::now();
        let settings = world.settings.load();
        let client_key = peer.client_key(number, settings.queue.fair_by);
        let greeted_until = now + settings.timeouts.handshake;
        drop(settings);
        let inbound = Inbound::new(world.frame_bytes_max());
        Self {
            session: Session::new(Arc::clone(&world), number, client_key),
            world,
            stream,
            inbound,
            input: InputSide::Frames,
            clock: Clock::new(greeted_until),
            reading: None,
            writing: None,
            last_activity: now,
            greeted_until,
            phase: Phase::Serving,
            is_idle_in_drain: false,
            resident,
        }
    }

    /// The whole life of the connection. Dropping it stops what it asked for; it is not cancelled in any other way.
    #[allow(
        clippy::manual_async_fn,
        reason = "an async fn would keep its argument twice: as it was given and as it is used"
    )]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let ended = match poll_fn(|context| self.poll_life(context)).await {
                // Its timers would be a part of every connection's memory that only ending ones need.
                Ok(()) => Box::pin(self.part()).await,
                Err(broken) => Err(broken),
            };
            self.say_ended(ended);
        }
    }

    fn say_ended(&self, ended: Result<(), Broken>) {
        let number = self.session.number;
        match ended {
            Ok(()) => tracing::debug!(connection = number, "connection closed"),
            Err(Broken::Io(error)) => tracing::debug!(connection = number, %error, "connection lost"),
            Err(Broken::WriteTimeout) => {
                tracing::info!(
                    connection = number,
                    "connection closed: the client does not read its answers"
                );
            }
        }
    }

    /// Until everything is said and written.
    fn poll_life(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.resident.enroll(context.waker());
        if let Some(phase) = self.world.phase_beyond(self.phase) {
            self.phase = phase;
            self.enter_phase()?;
            if self.world.is_left() {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_conversation(context)
    }

    fn enter_phase(&mut self) -> Result<(), Broken> {
        match self.phase {
            Phase::Serving | Phase::Quiet => {}
            Phase::Draining => {
                let arrived = self.read_what_has_arrived()?;
                // Whoever asked a moment ago may be asking now.
                let is_calm = self.last_activity.elapsed() > LINGER;
                self.is_idle_in_drain = !arrived && is_calm && self.session.is_quiet();
                self.session.drain();
            }
            Phase::Cancelling => {
                self.session.drain();
                let arriving = self.inbound.abandon();
                self.session.cancel_waiting(arriving);
            }
            Phase::Over => {
                self.session.give_up(self.inbound.abandon());
                self.session.drain_over();
            }
        }
        Ok(())
    }

    /// One turn: read, hear the workers, write, look at the clock. Ready when everything is said and written.
    fn poll_conversation(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        for _ in 0..READS_MAX {
            // What is ready is said before it is noticed that nobody waits any more.
            self.hear_replies(context);
            let read = self.poll_input(context)?.is_ready();
            self.session.finish();
            let was_congested = self.is_congested();
            let flushed = self.poll_output(context)?.is_ready();
            if flushed && self.session.is_gone() {
                return Poll::Ready(Ok(()));
            }
            // Nothing was read, and so nothing asked to be woken for reading, while the peer did not read.
            let relieved = was_congested && !self.is_congested();
            if relieved && let Some(reading) = &mut self.reading {
                *reading = Progress::from(Instant::now());
            }
            let expired = self.poll_clock(context)?.is_ready();
            if !(read || relieved || expired) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Hears all that there is to hear from the workers for now.
    fn hear_replies(&mut self, context: &mut Context<'_>) {
        while let Poll::Ready(answers) = self.session.replies.poll_answers(context) {
            self.session.answers(answers);
            self.last_activity = Instant::now();
        }
    }

    /// Writes; Ready when nothing is left to be written.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.session.outbox.is_empty() {
            match self.session.outbox.poll_flush(&mut self.stream, context)? {
                // What is taken at once was said just now, and that is noted.
                Poll::Ready(taken) => {
                    if let Some(writing) = &mut self.writing {
                        self.last_activity = Instant::now();
                        writing.made(taken, self.last_activity);
                    }
                }
                Poll::Pending => {
                    self.writing.get_or_insert_with(|| Progress::from(Instant::now()));
                    return Poll::Pending;
                }
            }
        }
        self.writing = None;
        Poll::Ready(Ok(()))
    }

    /// Everything is said: ends the write side and gives the peer a moment to read it and close, if it may have
    /// something on the way that closing now would answer with a reset.
    async fn part(&mut self) -> Result<(), Broken> {
        poll_fn(|context| self.stream.poll_shutdown(context)).await?;
        if self.is_idle_in_drain && self.nothing_has_come_since() {
            return Ok(());
        }
        let begun_at = Instant::now();
        let drains = *self.world.phase.borrow() >= Phase::Draining;
        let last = begun_at + if drains { LINGER } else { LINGER_MAX };
        self.last_activity = begun_at;
        self.input = match self.input {
            InputSide::Frames => InputSide::Discarded { bytes: 0 },
            input => input,
        };
        loop {
            let until = last.min(self.last_activity + LINGER);
            let discarded = poll_fn(|context| match self.input {
                InputSide::Ended => Poll::Ready(Ok(())),
                _ => self.poll_discard(context),
            });
            match tokio::time::timeout_at(until.into(), discarded).await {
                Ok(result) => result?,
                Err(_) => return Ok(()),
            }
            if matches!(self.input, InputSide::Ended) {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory of an idle connection, with its socket's and its timer's parts in the runtime: the sum has to stay below
    /// 1.5 kB.
    const FUTURE_BYTES_MAX: usize = 640;

    #[test]
    fn the_future_of_a_connection_is_small() {
        fn future_bytes<F>(_: impl FnOnce(Connection) -> F) -> usize {
            size_of::<F>()
        }
        let found = future_bytes(Connection::run);
        assert!(found <= FUTURE_BYTES_MAX, "{found} bytes");
    }
}
