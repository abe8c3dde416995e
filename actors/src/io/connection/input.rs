//! The peer's bytes: read, taken apart, or thrown away.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::BufMut;
use tokio::io::ReadBuf;
use zeroize::Zeroize;

use super::clock::Progress;
use super::{Broken, Connection, InputSide};
use crate::io::inbound::Item;
use crate::io::parting::LINGER_BYTES_MAX;
use crate::io::session::{Turn, Verdict};

/// What one read takes at most, and so the largest batch of requests that crosses the bridge together.
const READ_BYTES_MAX: usize = 64 * 1024;

/// Reads of what had arrived when the drain began: more than a socket's buffer holds by default.
const ARRIVED_READS_MAX: usize = 128;

thread_local! {
    /// What one read delivers. One for each I/O thread, because nothing in it outlives the poll that reads.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES_MAX]);
}

impl Connection {
    /// What has arrived before the drain is still accepted. Asks the socket itself: what the runtime knows of it may be
    /// older than the drain. Says whether anything had.
    pub(super) fn read_what_has_arrived(&mut self) -> Result<bool, Broken> {
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

    /// Reads once. Pending while there is nothing, or nothing may be read.
    pub(super) fn poll_input(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
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
        match self.inbound.in_place() {
            Some((body, room)) => {
                match ready!(self.stream.poll_read_buf(context, &mut body.limit(room)))? {
                    0 => self.end_of_input(),
                    read => self.digest_in_place(read),
                }
                Poll::Ready(Ok(()))
            }
            None => match self.inbound.expects() {
                Some(room) => self.poll_expected(context, room),
                None => self.poll_frames(context),
            },
        }
    }

    pub(super) fn is_congested(&self) -> bool {
        if self.session.outbox.is_empty() {
            return false;
        }
        let limit = self.world.settings.load().limits.unwritten_bytes_max;
        self.session.outbox.bytes() as u64 > limit
    }

    /// Reads what has arrived into the thread's scratch memory and takes it apart.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(self.stream.poll_read(context, &mut buffer))?;
            if buffer.filled().is_empty() {
                self.end_of_input();
            } else {
                self.digest_read(buffer.filled_mut());
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Reads a request like the last one into memory of its own, which becomes its body's.
    fn poll_expected(&mut self, context: &mut Context<'_>, room: usize) -> Poll<Result<(), Broken>> {
        ready!(self.stream.poll_read_ready(context))?;
        let mut ahead = Vec::with_capacity(room);
        let read = ready!(self.stream.poll_read_buf(context, &mut (&mut ahead).limit(room)))?;
        if read == 0 {
            self.end_of_input();
            return Poll::Ready(Ok(()));
        }
        match self.inbound.expected_head(&ahead) {
            Some(head_len) => self.digest_expected(ahead, head_len),
            None => self.digest_read(&mut ahead),
        }
        Poll::Ready(Ok(()))
    }

    /// Takes apart what one read delivered, and wipes it if there was a secret in it.
    fn digest_read(&mut self, read: &mut [u8]) {
        let now = Instant::now();
        self.progress(read.len(), now);
        let mut turn = self.session.begin_turn(now);
        let completed = self.digest(&mut turn, read);
        self.end_turn(turn, completed);
    }

    /// The same of a request whose body stays where it was read, with its head of so many bytes before it.
    fn digest_expected(&mut self, ahead: Vec<u8>, head_len: usize) {
        let now = Instant::now();
        self.progress(ahead.len(), now);
        let mut turn = self.session.begin_turn(now);
        let mut completed = self.take_apart(&mut turn, &ahead[..head_len]);
        completed |= match self.inbound.adopt(ahead, head_len) {
            Ok(mut overrun) => self.digest(&mut turn, &mut overrun),
            Err(mut ahead) => {
                let completed = self.digest(&mut turn, &mut ahead[head_len..]);
                // It is refused, or a secret.
                ahead.zeroize();
                completed
            }
        };
        self.end_turn(turn, completed);
    }

    /// The same of what was read into the memory of a body.
    fn digest_in_place(&mut self, read: usize) {
        let now = Instant::now();
        self.progress(read, now);
        let mut turn = self.session.begin_turn(now);
        let mut overrun = self.inbound.overrun();
        let completed = self.digest(&mut turn, &mut overrun);
        self.end_turn(turn, completed);
    }

    fn progress(&mut self, bytes: usize, now: Instant) {
        self.last_activity = now;
        if let Some(reading) = &mut self.reading {
            reading.made(bytes, now);
        }
    }

    /// Takes apart what was read, and wipes it if there was a secret in it. Whether anything was complete.
    fn digest(&mut self, turn: &mut Turn, read: &mut [u8]) -> bool {
        let begins_in_secret = self.inbound.may_be_secret();
        let completed = self.take_apart(turn, read);
        if std::mem::take(&mut self.session.secret_read) || begins_in_secret || self.inbound.may_be_secret() {
            read.zeroize();
        }
        completed
    }

    /// Takes apart what was read. Whether anything was complete.
    fn take_apart(&mut self, turn: &mut Turn, mut data: &[u8]) -> bool {
        let mut completed = false;
        while !self.session.is_leaving() {
            if turn.is_congested(&self.session) || turn.is_over() {
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
                    let is_here = body.is_some();
                    match self.session.work(turn, prefix, header, body) {
                        Verdict::Awaited(waiting) => {
                            let body = self.session.body_for(&waiting);
                            self.inbound.arrive(waiting, body, prefix);
                        }
                        Verdict::Skip if !is_here => self.inbound.skip(u64::from(prefix.body_len)),
                        Verdict::Taken | Verdict::Skip => {}
                    }
                }
                Item::Frame(frame) => self.session.frame(turn, frame),
                Item::Arrived(arrived) => self.session.arrived(turn, arrived.waiting, arrived.body),
            }
        }
        completed
    }

    /// What was complete goes over the bridge together; for the rest of what has begun the peer has its time.
    fn end_turn(&mut self, turn: Turn, completed: bool) {
        let now = turn.now;
        self.session.end_turn(turn);
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
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(self.stream.poll_read(context, &mut buffer))?;
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

    pub(super) fn nothing_has_come_since(&self) -> bool {
        let late = self.stream.read_now(&mut [0]);
        matches!(late, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
