//! What the service manager is told (sd_notify(3)). Without `NOTIFY_SOCKET` nothing is sent; a failure is logged
//! at debug level and never stops the daemon, which works the same without a manager.

use std::time::Duration;

use sd_notify::NotifyState;

/// Listeners are bound and the pool stands; also ends a reload.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload begins. [`ready`] ends it, whether the new configuration was taken or not.
pub fn reloading() {
    // systemd 253 and newer ends a service of Type=notify-reload that leaves the time out.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "cannot read the monotonic clock for the service manager"),
    }
}

/// The drain begins.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    // The protocol is lines; a newline would begin another assignment.
    let line = text.replace(['\n', '\r'], " ");
    notify(&[NotifyState::Status(&line)]);
}

/// Start or stop may take this much longer from now; to be repeated while there is progress.
pub fn extend_timeout(by: Duration) {
    let microseconds = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
    notify(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
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
        ready();
        reloading();
        status("two\nlines");
        extend_timeout(Duration::MAX);
        stopping();
    }
}
