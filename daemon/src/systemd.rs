//! What the service manager is told (sd_notify(3)). Without `NOTIFY_SOCKET` nothing is sent; a failure is logged
//! at debug level and never stops the daemon, which works the same without a manager.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use windlass_actors::{Observation, Phase, Sketch};

/// Each extension of a drain's time. Long beside the time between two, so that a busy machine does not matter; short
/// beside a drain, so that a daemon that has died inside is not waited for.
const EXTENSION: Duration = Duration::from_secs(10);

/// After the drain is over, for the process to end.
const LAST_STEPS: Duration = Duration::from_secs(1);

/// The one who started this process, if anybody did. All its users share one.
#[derive(Debug, Default)]
pub(crate) struct ServiceManager {
    stopping: AtomicBool,
    reload_refused: AtomicBool,
    stalled: AtomicBool,
}

impl ServiceManager {
    /// Listeners are bound and the pool stands.
    pub(crate) fn ready(&self) {
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    }

    /// A reload begins. [`ServiceManager::reloaded`] ends it.
    pub(crate) fn reloading(&self) {
        // systemd 253 and newer ends a service of Type=notify-reload that leaves the time out.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]),
            Err(error) => tracing::debug!(%error, "cannot read the monotonic clock for the service manager"),
        }
    }

    /// A reload has ended; whether the old configuration stays in force.
    pub(crate) fn reloaded(&self, refused: bool) {
        self.reload_refused.store(refused, Ordering::Relaxed);
        let status = if refused { REFUSED } else { "serving" };
        notify(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// How things stand. Silent once the drain has begun, which has more to say.
    pub(crate) fn serving(&self, sketch: Sketch) {
        if self.stopping.load(Ordering::Relaxed) {
            return;
        }
        let Sketch { connections, waiting, busy, workers } = sketch;
        let state = if self.reload_refused.load(Ordering::Relaxed) { REFUSED } else { "serving" };
        status(&format!(
            "{state}: {connections} connections, {busy} of {workers} workers busy, {waiting} requests waiting"
        ));
    }

    /// What the supervisor sees, as `systemctl status` shows it, and the time that a drain needs.
    pub(crate) fn observe(&self, observation: Observation) {
        match observation {
            Observation::Entered(phase) => {
                let told = self.stopping.swap(phase > Phase::Serving, Ordering::Relaxed);
                if phase > Phase::Serving && !told {
                    notify(&[NotifyState::Stopping]);
                }
                status(phase.name());
            }
            Observation::Waiting { connections, requests, left, over_in } => {
                // A drain whose workers take nothing will not get better by waiting.
                if !self.stalled.load(Ordering::Relaxed) {
                    notify(&[NotifyState::ExtendTimeoutUsec(extension(over_in))]);
                }
                status(&format!(
                    "draining: {requests} requests on {connections} connections, {} s left",
                    left.as_secs()
                ));
            }
        }
    }

    /// The process is alive.
    pub(crate) fn alive(&self) {
        self.stalled.store(false, Ordering::Relaxed);
        notify(&[NotifyState::Watchdog]);
    }

    /// The process is alive, and yet should be started afresh: nothing is sent until it has recovered.
    pub(crate) fn stalled(&self) {
        self.stalled.store(true, Ordering::Relaxed);
        status("stalled: requests wait while a worker is idle; not feeding the watchdog");
    }
}

/// The last reload changed nothing.
const REFUSED: &str = "serving with the old configuration, the reload was refused";

/// Microseconds from now that a drain may take, never beyond its own end.
fn extension(over_in: Duration) -> u32 {
    let by = EXTENSION.min(over_in + LAST_STEPS);
    u32::try_from(by.as_micros()).unwrap_or(u32::MAX)
}

/// How often the service manager wants to hear that this process is alive; `None` where it does not.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// One line for `systemctl status`.
fn status(text: &str) {
    // The protocol is lines; a newline would begin another assignment.
    let line = text.replace(['\n', '\r'], " ");
    notify(&[NotifyState::Status(&line)]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_service_manager_nothing_happens() {
        assert!(std::env::var_os("NOTIFY_SOCKET").is_none(), "the test runs outside of a service");
        let manager = ServiceManager::default();
        manager.ready();
        manager.reloading();
        manager.reloaded(true);
        manager.serving(Sketch { connections: 1, waiting: 2, busy: 3, workers: 4 });
        manager.alive();
        manager.stalled();
        manager.observe(Observation::Entered(Phase::Draining));
        manager.observe(Observation::Waiting {
            connections: 1,
            requests: 1,
            left: Duration::MAX / 2,
            over_in: Duration::MAX / 2,
        });
        status("two\nlines");
    }

    #[test]
    fn no_extension_reaches_beyond_the_end_of_the_drain() {
        assert_eq!(extension(Duration::from_secs(3600)), 10_000_000);
        assert_eq!(extension(Duration::from_millis(2500)), 3_500_000);
        assert_eq!(extension(Duration::ZERO), 1_000_000);
    }
}
