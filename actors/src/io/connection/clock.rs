//! How long a peer is waited for.

use std::task::{Context, Poll};
use std::time::Instant;

use super::{Broken, Connection};

/// What a peer has to send or take within a timeout to count as making progress, unless it is less that is missing.
const PROGRESS_BYTES: usize = 64 * 1024;

/// How a peer keeps up with what it owes.
pub(super) struct Progress {
    pub(super) since: Instant,
    bytes: usize,
}

impl Progress {
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    pub(super) fn made(&mut self, bytes: usize, now: Instant) {
        self.bytes += bytes;
        if self.bytes >= PROGRESS_BYTES {
            *self = Self::from(now);
        }
    }
}

impl Connection {
    /// Looks at the clock. Ready when something was due and is done.
    pub(super) fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(due) = self.next_due() else { return Poll::Pending };
        // An armed timer that is too early only costs a look; one that is too late would miss what is due.
        if self.timer.deadline().into_std() > due || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due.into());
            self.timer_armed = false;
        }
        if self.timer_armed && !self.timer.is_elapsed() {
            return Poll::Pending;
        }
        self.timer_armed = self.timer.as_mut().poll(context).is_pending();
        if self.timer_armed {
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
}
