//! Owns: one stream and its [`Session`]. Receives: bytes, the workers' answers, the phases of the daemon.
//! Sends: batches to the CPU world, frames to the peer. Ends when: both sides are done, the peer is gone, or a
//! timeout passes. Never: computes, blocks, or keeps a buffer while nothing is being read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BufMut;
use tokio::io::ReadBuf;
use tokio::time::Sleep;
use zeroize::Zeroize;

use super::IoWorld;
use super::admit::Waiting;
use super::census::Resident;
use super::inbound::{Inbound, Item};
use super::parting::{LINGER, LINGER_BYTES_MAX, LINGER_MAX};
use super::session::{Session, Verdict};
use super::stream::{Peer, Stream};
use crate::lifecycle::Phase;

/// What one read takes at most, and so the largest batch of requests that crosses the bridge together.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Reads before other connections of the thread get their turn.
const READS_MAX: usize = 8;

/// Reads of what had arrived when the drain began: more than a socket's buffer holds by default.
const ARRIVED_READS_MAX: usize = 128;

/// What a peer has to send or take within a timeout to count as making progress, unless it is less that is missing.
const PROGRESS_BYTES: usize = 64 * 1024;

thread_local! {
    /// What one read delivers. One for each I/O thread, because nothing in it outlives the poll that reads.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

/// The actor of one connection.
pub(crate) struct Connection {
    world: Arc<IoWorld>,
    stream: Stream,
    inbound: Inbound<Box<Waiting>>,
    session: Session,
    input: InputSide,
    timer: Pin<Box<Sleep>>,
    /// Since when the peer owes bytes of a frame that has begun, and how many came since.
    reading: Option<Progress>,
    /// Since when the peer owes room for what is to be written, and how much it took since.
    writing: Option<Progress>,
    last_activity: Instant,
    /// Until when preface and Hello have to be here, however they arrive.
    greeted_until: Instant,
    /// Nothing was open and nothing had arrived when the drain began.
    is_idle_in_drain: bool,
    _resident: Resident,
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

struct Progress {
    since: Instant,
    bytes: usize,
}

impl Progress {
    fn from(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    fn made(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        if self.bytes >= PROGRESS_BYTES {
            *self = Self::from(now);
        }
    }
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
        let timer = Box::pin(tokio::time::sleep_until(greeted_until.into()));
        drop(settings);
        let inbound = Inbound::new(world.frame_bytes_max());
        Self {
            session: Session::new(Arc::clone(&world), number, client_key),
            world,
            stream,
            inbound,
            input: InputSide::Frames,
            timer,
            reading: None,
            writing: None,
            last_activity: now,
            greeted_until,
            is_idle_in_drain: false,
            _resident: resident,
        }
    }

    /// The whole life of the connection. Dropping it stops what it asked for; it is not cancelled in any other way.
    pub(crate) async fn run(mut self) {
        let number = self.session.number;
        let ended = match self.converse().await {
            Ok(()) => self.part().await,
            Err(broken) => Err(broken),
        };
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
    async fn converse(&mut self) -> Result<(), Broken> {
        let mut phase = self.world.phase.clone();
        let begun_in = *phase.borrow_and_update();
        self.enter_phase(begun_in).await?;
        loop {
            tokio::select! {
                biased;
                changed = phase.changed() => {
                    let now = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Over };
                    self.enter_phase(now).await?;
                    if changed.is_err() {
                        return Ok(());
                    }
                }
                done = poll_fn(|context| self.poll_conversation(context)) => return done,
            }
        }
    }

    async fn enter_phase(&mut self, phase: Phase) -> Result<(), Broken> {
        match phase {
            Phase::Serving | Phase::Quiet => {}
            Phase::Draining => {
                let arrived = self.read_what_has_arrived()?;
                self.is_idle_in_drain = !arrived && self.session.is_quiet();
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

    /// What has arrived before the drain is still accepted. Asks the socket itself: what the runtime knows of it may be
    /// older than the drain. Says whether anything had.
    fn read_what_has_arrived(&mut self) -> Result<bool, Broken> {
        let mut any = false;
        for _ in 0..ARRIVED_READS_MAX {
            if !matches!(self.input, InputSide::Frames) || self.session.is_leaving() || self.is_congested() {
                break;
            }
            if let Some(mut aside) = self.inbound.take_aside() {
                self.digest_read(&mut aside);
                continue;
            }
            let arrived = SCRATCH.with_borrow_mut(|scratch| match self.stream.read_now(scratch) {
                // The end is for the turns that follow, when what was read is on its way.
                Ok(0) => Ok(false),
                Ok(read) => {
                    self.digest_read(&mut scratch[..read]);
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) => Err(Broken::Io(error)),
            })?;
            if !arrived {
                break;
            }
            any = true;
        }
        Ok(any)
    }

    /// One turn: read, hear the workers, write, look at the clock. Ready when everything is said and written.
    fn poll_conversation(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        for _ in 0..READS_MAX {
            // What is ready is said before it is noticed that nobody waits any more.
            let heard = self.poll_replies(context).is_ready();
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
            if !(read || heard || relieved || expired) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once. Pending while there is nothing, or nothing may be read.
    fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        match self.input {
            InputSide::Ended => return Poll::Pending,
            InputSide::Discarded { .. } => return self.poll_discard(context).map_err(Broken::from),
            InputSide::Frames if self.session.is_leaving() => {
                self.session.give_up(self.inbound.abandon());
                self.input = InputSide::Discarded { bytes: 0 };
                return self.poll_discard(context).map_err(Broken::from);
            }
            // A peer that does not read is not read from either.
            InputSide::Frames if self.is_congested() => return Poll::Pending,
            InputSide::Frames => {}
        }
        if let Some(mut aside) = self.inbound.take_aside() {
            self.digest_read(&mut aside);
            return Poll::Ready(Ok(()));
        }
        let read = match self.inbound.arriving() {
            Some((body, missing)) if missing >= READ_BYTES_MAX => {
                std::task::ready!(self.stream.poll_read_buf(context, &mut body.limit(missing)))?
            }
            _ => return self.poll_frames(context),
        };
        let now = Instant::now();
        if read == 0 {
            self.end_of_input();
        } else {
            self.progress(read, now);
            self.digest(&[], now);
        }
        Poll::Ready(Ok(()))
    }

    fn is_congested(&self) -> bool {
        let limit = self.world.settings.load().limits.unwritten_bytes_max;
        self.session.outbox.bytes() as u64 > limit
    }

    /// Reads what has arrived into the thread's scratch memory and takes it apart.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            std::task::ready!(self.stream.poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.end_of_input();
            } else {
                self.digest_read(buffer.filled_mut());
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Takes apart what one read delivered, and wipes it if there was a secret in it.
    fn digest_read(&mut self, read: &mut [u8]) {
        let now = Instant::now();
        let begins_in_secret = self.inbound.may_be_secret();
        self.progress(read.len(), now);
        self.digest(read, now);
        if std::mem::take(&mut self.session.secret_read) || begins_in_secret || self.inbound.may_be_secret() {
            read.zeroize();
        }
    }

    fn progress(&mut self, bytes: usize, now: Instant) {
        self.last_activity = now;
        if let Some(reading) = &mut self.reading {
            reading.made(bytes, now);
        }
    }

    /// Takes apart what was read; what is in it goes over the bridge together.
    fn digest(&mut self, mut data: &[u8], now: Instant) {
        let mut completed = false;
        self.session.begin_turn();
        loop {
            if self.is_congested() || self.session.turn_is_over() {
                self.inbound.set_aside(data);
                break;
            }
            let item = match self.inbound.next(&mut data) {
                Ok(Some(item)) => item,
                Ok(None) => break,
                Err(misread) => {
                    self.session.misread(&misread);
                    break;
                }
            };
            completed = true;
            match item {
                Item::Preface => self.session.preface(),
                Item::Work { prefix, header, body } => {
                    match (self.session.work(prefix, header, body.is_some(), now), body) {
                        (Verdict::Read(waiting), Some(body)) => self.session.body(waiting, body, now),
                        (Verdict::Read(waiting), None) => {
                            let body = self.session.body_for(&waiting);
                            self.inbound.arrive(waiting, body, prefix.body_len as usize);
                        }
                        (Verdict::Skip, Some(_)) => {}
                        (Verdict::Skip, None) => self.inbound.skip(u64::from(prefix.body_len)),
                    }
                }
                Item::Frame { kind, prefix, header, body } => self.session.frame(kind, prefix, header, body),
                Item::Arrived(arrived) => self.session.arrived(arrived.waiting, arrived.body, now),
            }
            if self.session.is_leaving() {
                break;
            }
        }
        self.session.submit();
        if self.inbound.at_boundary() {
            self.reading = None;
        } else if completed || self.reading.is_none() {
            self.reading = Some(Progress::from(now));
        }
    }

    fn end_of_input(&mut self) {
        self.input = InputSide::Ended;
        self.reading = None;
        let inside = self.inbound.inside();
        self.session.give_up(self.inbound.abandon());
        self.session.end_of_input(inside);
    }

    /// Throws away what a peer sends that has been told to go. Ready when it did send something, or is done.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            std::task::ready!(self.stream.poll_read(context, &mut buffer))?;
            let read = buffer.filled().len() as u64;
            // It may be the rest of a secret that was refused.
            buffer.filled_mut().zeroize();
            self.last_activity = Instant::now();
            self.input = match self.input {
                InputSide::Discarded { bytes } if read > 0 && bytes + read < LINGER_BYTES_MAX => {
                    InputSide::Discarded { bytes: bytes + read }
                }
                _ => {
                    self.session.end_of_input(None);
                    InputSide::Ended
                }
            };
            Poll::Ready(Ok(()))
        })
    }

    fn poll_replies(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut heard = Poll::Pending;
        while let Poll::Ready(answers) = self.session.replies.poll_answers(context) {
            self.session.answers(answers);
            self.last_activity = Instant::now();
            heard = Poll::Ready(());
        }
        heard
    }

    /// Writes; Ready when nothing is left to be written.
    fn poll_output(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while !self.session.outbox.is_empty() {
            match self.session.outbox.poll_flush(&mut self.stream, context)? {
                Poll::Ready(taken) => {
                    self.last_activity = Instant::now();
                    if let Some(writing) = &mut self.writing {
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

    /// Looks at the clock. Ready when something was due and is done.
    fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(due) = self.next_due() else { return Poll::Pending };
        // An armed timer that is too early only costs a look; one that is too late would miss what is due.
        if self.timer.deadline().into_std() > due || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due.into());
        }
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        let now = Instant::now();
        if now >= due {
            self.expire(now)?
        }
        Poll::Ready(Ok(()))
    }

    /// The earliest of all that this connection waits for.
    fn next_due(&self) -> Option<Instant> {
        let settings = self.world.settings.load();
        let timeouts = &settings.timeouts;
        if self.session.is_greeting() {
            // Nothing is written before it is over.
            return Some(self.greeted_until);
        }
        let write = self.writing.as_ref().map(|writing| writing.since + timeouts.write);
        // The daemon's own reluctance to read is not the peer's.
        let reading = self.reading.as_ref().filter(|_| !self.is_congested());
        let read = reading.map(|reading| reading.since + timeouts.read);
        let arriving = self.inbound.awaited().map(|(waiting, _)| waiting.deadline());
        let quiet = self.session.is_quiet() && self.reading.is_none() && !self.session.is_leaving();
        let idle = quiet.then(|| self.last_activity + timeouts.idle);
        [read, write, idle, self.session.next_due(), arriving].into_iter().flatten().min()
    }

    fn expire(&mut self, now: Instant) -> Result<(), Broken> {
        let settings = self.world.settings.load_full();
        let timeouts = &settings.timeouts;
        if self.writing.as_ref().is_some_and(|writing| now >= writing.since + timeouts.write) {
            return Err(Broken::WriteTimeout);
        }
        if self.session.is_greeting() {
            if now >= self.greeted_until {
                self.session.violation("no whole Hello came; timeouts.handshake passed");
            }
            return Ok(());
        }
        self.session.release(now);
        self.session.expire_waiting(now);
        if let Some((waiting, missing)) = self.inbound.awaited()
            && waiting.deadline() <= now
        {
            self.session.expire_arriving(waiting, missing);
            drop(self.inbound.abandon());
        }
        let stalled = |reading: &Progress| now >= reading.since + timeouts.read;
        if self.reading.as_ref().is_some_and(stalled) && !self.is_congested() {
            self.reading = None;
            let arriving = self.inbound.abandon();
            self.session.give_up(arriving);
            self.session.violation("no progress within a frame; timeouts.read passed");
            return Ok(());
        }
        if !self.session.is_quiet() || self.reading.is_some() || self.session.is_leaving() {
            return Ok(());
        }
        if now >= self.last_activity + timeouts.idle {
            self.session.leave_idle();
        }
        Ok(())
    }

    fn nothing_has_come_since(&self) -> bool {
        let late = self.stream.read_now(&mut [0]);
        matches!(late, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
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
