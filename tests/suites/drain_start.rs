//! SIGTERM while the daemon still starts: it ends cleanly, wherever it was.

use rustix::process::Signal;
use windlass_tests::{Daemon, Program, Ready, eventually, repetitions};

/// SIGTERM is 15, and signals count from 1 (proc(5), SigCgt).
const SIGTERM_BIT: u64 = 1 << 14;

/// A fact about a starting daemon, and so a moment.
enum Moment {
    Caught,
    Threads(usize),
    Logged(&'static str),
}

/// From here on the system does not end the process by itself. Before, it is not a daemon yet, but this test's child.
fn handles_sigterm(daemon: &Daemon) -> bool {
    let caught = daemon.process_status("SigCgt").map(|mask| u64::from_str_radix(&mask, 16).unwrap());
    caught.is_some_and(|mask| mask & SIGTERM_BIT != 0)
}

/// Looks without a pause: the moments that matter are short.
#[track_caller]
fn reach(daemon: &Daemon, moment: &Moment) {
    let until = std::time::Instant::now() + windlass_tests::PATIENCE;
    let is_reached = || match moment {
        Moment::Caught => handles_sigterm(daemon),
        Moment::Threads(n_threads) => daemon.threads().len() >= *n_threads && handles_sigterm(daemon),
        Moment::Logged(text) => daemon.log().iter().any(|event| event["message"] == *text),
    };
    while !is_reached() {
        assert!(std::time::Instant::now() < until, "the daemon does not start");
        std::hint::spin_loop();
    }
}

#[test]
fn sigterm_during_start_up_ends_it_cleanly() {
    let moments = [
        Moment::Caught,
        Moment::Threads(2),
        Moment::Threads(3),
        Moment::Threads(4),
        Moment::Logged("resolved auto"),
        Moment::Logged("listening"),
        Moment::Logged("ready"),
    ];
    for round in 0..repetitions("WINDLASS_START_ROUNDS", 5) {
        for (index, moment) in moments.iter().enumerate() {
            let directory = tempfile::tempdir().unwrap();
            let socket = directory.path().join("windlass.sock");
            let settings = [("cpu.threads", "2"), ("listen.unix", socket.to_str().unwrap())];
            let daemon = Daemon::launch(Program::Windlassd, &settings, Ready::Ignored, |_| {});
            reach(&daemon, moment);
            let ended = daemon.drain();
            assert_eq!(ended.status, Some(0), "round {round}, moment {index}: {:#?}", ended.log);
            let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
            assert!(left.is_empty(), "round {round}, moment {index}: {left:?}");
        }
    }
}

#[test]
fn two_signals_during_start_up_end_it_at_once() {
    let daemon = Daemon::launch(Program::Windlassd, &[("drain.quiet", "1h")], Ready::Ignored, |_| {});
    daemon.wait_for_log("resolved auto");
    // The second one is sent when the first has been delivered, or they would be one.
    daemon.signal(Signal::TERM);
    eventually("the signal is delivered", || {
        let pending = daemon.process_status("ShdPnd")?;
        (u64::from_str_radix(&pending, 16).unwrap() & SIGTERM_BIT == 0).then_some(())
    });
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().status, Some(75));
}
