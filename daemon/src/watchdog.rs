//! Owns: the beat. Receives: looks at the workers. Sends: keep-alives and the status line to the service manager.
//! Ends when: the I/O runtime does. Never: waits for a worker, or feeds the watchdog while the bridge is stuck.
//!
//! It lives on the I/O side, so that an I/O side that hangs starves the watchdog by itself. All workers busy is
//! health; what is withheld for is [`Stall`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use windlass_actors::{Pulse, Sketch, Stall};

use crate::systemd::ServiceManager;

/// Looks at the workers within one interval of the watchdog: a quarter of it is seen four times.
const LOOKS: u32 = 16;

/// The interval that is assumed where the service manager has none, so that a stall is logged all the same.
const INTERVAL_ASSUMED: Duration = Duration::from_secs(30);

/// How often the status line may change.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// The beat of the daemon.
pub(crate) struct Watchdog {
    pulse: Pulse,
    manager: Arc<ServiceManager>,
    /// Whether anybody waits for keep-alives.
    watched: bool,
    interval: Duration,
    fed_at: Option<Instant>,
    status: Option<(Instant, Sketch)>,
    stalled: bool,
}

impl Watchdog {
    /// `interval` is what the service manager allows between two keep-alives, if it wants any.
    pub(crate) fn new(pulse: Pulse, manager: Arc<ServiceManager>, interval: Option<Duration>) -> Self {
        Self {
            pulse,
            manager,
            watched: interval.is_some(),
            interval: interval.unwrap_or(INTERVAL_ASSUMED),
            fed_at: None,
            status: None,
            stalled: false,
        }
    }

    /// Beats for ever. Cancel safe.
    pub(crate) async fn run(mut self) {
        let every = self.interval / LOOKS;
        let mut ticks = tokio::time::interval(every.max(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = Instant::now();
            let stall = self.pulse.look(now, every).filter(|stall| stall.lasting >= self.interval / 4);
            match stall {
                Some(stall) => self.withhold(stall),
                None => self.feed(now),
            }
        }
    }

    fn feed(&mut self, now: Instant) {
        if std::mem::take(&mut self.stalled) {
            tracing::warn!("workers take jobs again");
            self.fed_at = None;
        }
        let due = |at: Option<Instant>, after: Duration| at.is_none_or(|at| now - at >= after);
        // One look early rather than one late.
        if due(self.fed_at, self.interval / 2 - self.interval / LOOKS / 2) {
            self.fed_at = Some(now);
            if self.watched {
                self.manager.alive();
            }
        }
        let sketch = self.pulse.sketch();
        let last = self.status;
        if due(last.map(|(at, _)| at), STATUS_EVERY) && last.is_none_or(|(_, said)| said != sketch) {
            self.status = Some((now, sketch));
            self.manager.serving(sketch);
        }
    }

    fn withhold(&mut self, stall: Stall) {
        if !std::mem::replace(&mut self.stalled, true) {
            self.manager.stalled();
            tracing::error!(
                waiting = stall.waiting,
                idle_workers = stall.idle,
                lasting_ms = u64::try_from(stall.lasting.as_millis()).unwrap_or(u64::MAX),
                watchdog = self.watched,
                "requests wait while a worker is idle; this is a bug; no keep-alive is sent, so that the service \
                 manager starts the daemon afresh"
            );
        }
    }
}
