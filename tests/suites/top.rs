//! `windlass top` in a real terminal emulator.

use std::process::Command;

use windlass_tests::raw::{Raw, work};
use windlass_tests::{Daemon, Program, eventually, run, tool};

/// A terminal of the test's own; gone with it.
struct Terminal(String);

impl Terminal {
    fn tmux(&self) -> Option<Command> {
        let mut tmux = tool("tmux")?;
        tmux.args(["-L", &self.0]).env_remove("TMUX").env("LC_ALL", "C.UTF-8");
        Some(tmux)
    }

    #[track_caller]
    fn screen(&self) -> String {
        run(self.tmux().unwrap().args(["capture-pane", "-p", "-t", "top"]), b"").text().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(mut tmux) = self.tmux() {
            // It is gone already when the test went well.
            run(tmux.arg("kill-server"), b"");
        }
    }
}

#[test]
fn top_shows_what_runs_and_waits_and_says_when_the_daemon_is_gone() {
    let daemon = Daemon::start(&[
        ("cpu.threads", "1"),
        ("queue.capacity", "2"),
        ("queue.max_wait", "10m"),
        ("timeouts.deadline_default", "10m"),
    ]);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=20 {
        connection.send(&work(id, "hash", &[], b"abc"));
        connection.frame().unwrap();
    }
    for id in 21..=24 {
        connection.send(&work(id, "spin", &[("for", "1m")], b""));
    }
    connection.frame().unwrap();
    let terminal = Terminal(format!("windlass-top-{}", std::process::id()));
    let Some(mut tmux) = terminal.tmux() else { return };
    tmux.args(["new-session", "-d", "-s", "top", "-x", "130", "-y", "40"])
        .arg(Program::Windlass.path())
        .args(["--address", daemon.address(), "top", "--interval", "200ms"]);
    run(&mut tmux, b"").ok();
    let screen = eventually("the figures are drawn", || {
        let screen = terminal.screen();
        (screen.contains("spin for") && screen.contains("100%")).then_some(screen)
    });
    for words in
        ["serving", "2 of 2", "workers 1 of 1 busy", "refused: Overloaded 1", "in flight   3", "q quits"]
    {
        assert!(screen.contains(words), "no '{words}':\n{screen}");
    }
    let hash: Vec<&str> =
        screen.lines().find(|line| line.contains(" hash ")).unwrap().split_whitespace().collect();
    assert_eq!(hash[1..4], ["hash", "20", "0"], "{screen}");

    drop(daemon);
    eventually("the end is said", || terminal.screen().contains("gone").then_some(()));
    run(terminal.tmux().unwrap().args(["send-keys", "-t", "top", "q"]), b"").ok();
    eventually("it quits", || {
        let sessions = run(terminal.tmux().unwrap().arg("list-sessions"), b"");
        (sessions.status != Some(0)).then_some(())
    });
}
