//! The peer's bytes: read, taken apart, or thrown away.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::BufMut;
use tokio::io::ReadBuf;
use zeroize::Zeroize;

use super::clock::Progress;
use super::{Broken, Connection, InputSide};
use crate::io::inbound::Item;
use crate::io::parting::LINGER_BYTES_MAX;
use crate::io::session::Verdict;

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
        let mut turn = self.session.begin_turn(now);
        loop {
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
                    match self.session.work(&mut turn, prefix, header, body) {
                        Verdict::Awaited(waiting) => {
                            let body = self.session.body_for(&waiting);
                            self.inbound.arrive(waiting, body, prefix.body_len as usize);
                        }
                        Verdict::Skip if !is_here => self.inbound.skip(u64::from(prefix.body_len)),
                        Verdict::Taken | Verdict::Skip => {}
                    }
                }
                Item::Frame(frame) => self.session.frame(&mut turn, frame),
                Item::Arrived(arrived) => self.session.arrived(&mut turn, arrived.waiting, arrived.body),
            }
            if self.session.is_leaving() {
                break;
            }
        }
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

    pub(super) fn nothing_has_come_since(&self) -> bool {
        let late = self.stream.read_now(&mut [0]);
        matches!(late, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}
