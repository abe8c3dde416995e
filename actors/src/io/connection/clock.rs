//! How long a peer is waited for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::super::alarm::poll_timer;
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

/// The timer of a connection.
pub(super) struct Clock {
    timer: Pin<Box<Sleep>>,
    /// While the timer will wake this task: what the connection had to wait for when that was looked at last.
    armed: Option<Armed>,
}

/// What decides whether a timer that is armed can be left as it is.
#[derive(Clone, Copy)]
struct Armed {
    reads: bool,
    writes: bool,
    /// `timeouts.idle`, in milliseconds.
    idle_millis: u32,
}

impl Clock {
    pub(super) fn new(first_due: Instant) -> Self {
        Self { timer: Box::pin(tokio::time::sleep_until(first_due.into())), armed: None }
    }
}

impl Connection {
    /// Looks at the clock. Ready when something was due and is done.
    pub(super) fn poll_clock(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if self.is_timer_early_enough() {
            return Poll::Pending;
        }
        let Some(due) = self.next_due() else { return Poll::Pending };
        let Clock { timer, armed } = &mut self.clock;
        // An armed timer that is too early only costs a look; one that is too late would miss what is due.
        if timer.deadline().into_std() > due || timer.is_elapsed() {
            timer.as_mut().reset(due.into());
            *armed = None;
        }
        if armed.is_none() && poll_timer(timer.as_mut(), context).is_ready() {
            return self.expire_if(due);
        }
        let idle = self.world.settings.load().timeouts.idle.as_millis();
        let idle_millis = idle.try_into().unwrap_or(u32::MAX);
        self.clock.armed =
            Some(Armed { reads: self.owes_bytes(), writes: self.writing.is_some(), idle_millis });
        Poll::Pending
    }

    /// Whether the timer will wake this task before anything is due. Quickly told, because it is asked after every
    /// read: most of what is waited for can only have moved away since the timer was armed.
    fn is_timer_early_enough(&self) -> bool {
        let Clock { timer, armed: Some(armed) } = &self.clock else { return false };
        let until = timer.deadline().into_std();
        let idle = Duration::from_millis(armed.idle_millis.into());
        armed.reads == self.owes_bytes()
            && armed.writes == self.writing.is_some()
            && self.inbound.awaited().is_none()
            && self.session.next_due().is_none_or(|at| at >= until)
            && (!self.is_idle() || self.last_activity + idle >= until)
            && !timer.is_elapsed()
    }

    /// The daemon's own reluctance to read is not the peer's.
    fn owes_bytes(&self) -> bool {
        self.reading.is_some() && !self.is_congested()
    }

    fn is_idle(&self) -> bool {
        self.session.is_quiet() && self.reading.is_none() && !self.session.is_leaving()
    }

    fn expire_if(&mut self, due: Instant) -> Poll<Result<(), Broken>> {
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
        let reading = self.reading.as_ref().filter(|_| self.owes_bytes());
        let read = reading.map(|reading| reading.since + timeouts.read);
        let arriving = self.inbound.awaited().map(|(waiting, _)| waiting.deadline());
        let idle = self.is_idle().then(|| self.last_activity + timeouts.idle);
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
        if self.is_idle() && now >= self.last_activity + timeouts.idle {
            self.session.leave_idle();
        }
        Ok(())
    }
}
