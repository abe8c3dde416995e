//! What a service manager hears (sd_notify(3)): a socket of the test's own stands for systemd's.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustix::time::{ClockId, clock_gettime};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, PATIENCE, Program, Ready};

/// The other end of `NOTIFY_SOCKET`.
struct Manager(UnixDatagram);

impl Manager {
    /// A daemon with this configuration file, and the one who hears what it says.
    fn start(text: &str, watchdog: Option<Duration>) -> (Self, Daemon) {
        let mut heard = None;
        let daemon = Daemon::launch(Program::Windlassd, &[], Ready::Awaited, |command| {
            let directory = command.get_current_dir().unwrap().to_owned();
            std::fs::write(directory.join("windlass.toml"), text).unwrap();
            let socket = directory.join("notify");
            heard = Some(UnixDatagram::bind(&socket).unwrap());
            command.args(["--config", "windlass.toml"]).env("NOTIFY_SOCKET", socket);
            if let Some(interval) = watchdog {
                command.env("WATCHDOG_USEC", interval.as_micros().to_string());
            }
        });
        let socket = heard.unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (Self(socket), daemon)
    }

    /// The next message, as its assignments.
    #[track_caller]
    fn next(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let read = self.0.recv(&mut buffer).expect("the daemon says something");
        String::from_utf8(buffer[..read].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    /// The next message with an assignment that begins so; what it assigns, and the whole message.
    #[track_caller]
    fn wait_for(&self, beginning: &str) -> (String, Vec<String>) {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let message = self.next();
            if let Some(value) = message.iter().find_map(|line| line.strip_prefix(beginning)) {
                return (value.to_owned(), message);
            }
        }
        panic!("nothing was said that begins with {beginning}");
    }
}

fn monotonic_micros() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000 + u64::try_from(now.tv_nsec).unwrap() / 1000
}

#[test]
fn a_reload_is_told_with_its_time_and_ends_with_ready() {
    let (manager, daemon) = Manager::start("[queue]\ncapacity = 8\n", None);
    assert_eq!(manager.wait_for("READY=").0, "1");
    let before = monotonic_micros();
    daemon.signal(Signal::HUP);
    let (_, message) = manager.wait_for("RELOADING=1");
    let time = message.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("its time");
    let time: u64 = time.parse().unwrap();
    assert!((before..=monotonic_micros()).contains(&time), "{time} is not after {before}");
    let (_, message) = manager.wait_for("READY=1");
    assert!(message.contains(&"STATUS=serving".to_owned()), "{message:?}");

    std::fs::write(daemon.directory().join("windlass.toml"), "[queue]\ncapacity = \"lots\"\n").unwrap();
    daemon.signal(Signal::HUP);
    manager.wait_for("RELOADING=1");
    let (_, message) = manager.wait_for("READY=1");
    let status = message.iter().find_map(|line| line.strip_prefix("STATUS=")).unwrap();
    assert!(status.contains("the reload was refused"), "{status}");
}

#[test]
fn a_drain_asks_for_more_time_again_and_again_and_never_beyond_its_end() {
    let text = "[drain]\ntimeout = \"20s\"\ncancel_grace = \"1s\"\n";
    let (manager, daemon) = Manager::start(text, None);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work_within(1, "spin", &[("for", "60s")], Some(600_000), b""));
    daemon.wait_until_running("spin", 1);
    daemon.signal(Signal::TERM);
    manager.wait_for("STOPPING=1");
    let longest = Duration::from_secs(20 + 1) + Duration::from_millis(500 + 1000);
    let begun_at = Instant::now();
    for _ in 0..3 {
        let asked: u64 = manager.wait_for("EXTEND_TIMEOUT_USEC=").0.parse().unwrap();
        assert!(begun_at.elapsed() + Duration::from_micros(asked) <= longest + Duration::from_secs(1));
        let (status, _) = manager.wait_for("STATUS=draining: ");
        // Who asked for the status before may not have been seen to leave.
        assert!(status.starts_with("1 requests on "), "{status}");
    }
    connection.send(&raw::cancel(1));
    drop(connection);
    assert_eq!(daemon.wait().status, Some(0));
}

#[test]
fn a_busy_daemon_feeds_the_watchdog() {
    let interval = Duration::from_millis(400);
    let (manager, daemon) = Manager::start("", Some(interval));
    let mut gate = windlass_tests::Gate::hold(&daemon);
    // One more, so that something waits while all are busy.
    let waits = gate.jobs() + 1;
    gate.connection().send(&raw::work_within(waits, "spin", &[("for", "60s")], Some(600_000), b""));
    daemon.wait_for_status("one waits", |status| status["queue"]["waiting"] == 1);
    // More of them than could have been on their way already.
    for _ in 0..8 {
        manager.wait_for("WATCHDOG=1");
    }
}
