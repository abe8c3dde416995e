//! What the operator says: every problem told at once, who wins, what is taken by a reload, and the exit statuses.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use windlass_protocol::{FailureCode, Kind};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Program, Ran, Ready, run};

/// windlassd without the settings of whoever runs the tests.
fn windlassd(arguments: &[&str]) -> Command {
    let mut command = Program::Windlassd.command();
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"WINDLASS") {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

fn file(directory: &Path, text: &str) -> String {
    let path = directory.join("windlass.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The value of a key, as --print-config shows it.
#[track_caller]
fn printed(ran: &Ran, section: &str, key: &str) -> String {
    let section = format!("\n[{section}]\n");
    let (_, rest) = ran.text().split_once(&section).expect("the section");
    let line = rest.lines().find(|line| line.starts_with(&format!("{key} = "))).expect("the key");
    line.split_once(" = ").unwrap().1.to_owned()
}

const FAULTY: &str = r#"
[io]
threads = "many"
[cpu]
threads = 0
[limits]
connections = 16000000
body = "64 parsecs"
[queue]
capasity = 10
[lisen]
tcp = []
"#;

#[test]
fn every_problem_is_listed_at_once_with_key_value_and_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), FAULTY);
    for more in [&["--check"][..], &[]] {
        let mut command = windlassd(&["--config", &path, "--set", "drain.timeout=soon"]);
        command.env("WINDLASS__LOG__LEVEL", "loud=very=").args(more);
        let ran = run(&mut command, b"");
        assert_eq!(ran.status, Some(78), "{}", ran.stderr);
        let expected = [
            ("io.threads = \"many\"", "line 3"),
            ("cpu.threads = 0", "line 5"),
            ("limits.connections = 16000000", "line 7"),
            ("limits.body = \"64 parsecs\"", "line 8"),
            ("queue.capasity = 10", "line 10"),
            ("lisen ", "line 11"),
            ("log.level = \"loud=very=\"", "WINDLASS__LOG__LEVEL"),
            ("drain.timeout = \"soon\"", "--set"),
        ];
        for (problem, origin) in expected {
            let line = ran.stderr.lines().find(|line| line.trim_start().starts_with(problem));
            let line = line.unwrap_or_else(|| panic!("no '{problem}' in {}", ran.stderr));
            let (place, reason) = line.split_once("): ").unwrap();
            assert!(place.contains(origin), "{line}");
            assert!(!reason.is_empty(), "{line}");
        }
        assert!(ran.stderr.contains(&format!("{} problems", expected.len())), "{}", ran.stderr);
        assert!(ran.stderr.contains("did you mean queue.capacity?"), "{}", ran.stderr);
        assert!(ran.stderr.contains("descriptors"), "{}", ran.stderr);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_among_others() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("no-such.toml");
    // A directory cannot be read by anybody, unlike a file without rights, which root reads.
    for path in [&*missing, directory.path()] {
        let path = path.to_str().unwrap();
        let ran = run(&mut windlassd(&["--config", path, "--set", "cpu.threads=0"]), b"");
        assert_eq!(ran.status, Some(78));
        assert!(ran.stderr.contains(&format!("{path}: cannot be read")), "{}", ran.stderr);
        assert!(ran.stderr.contains("cpu.threads = \"0\"") || ran.stderr.contains("cpu.threads = 0"));
    }
    let broken = file(directory.path(), "[io\nthreads = 1\n");
    let ran = run(&mut windlassd(&["--config", &broken, "--check"]), b"");
    assert_eq!(ran.status, Some(78));
    assert!(ran.stderr.contains("line 1, column 4: not TOML"), "{}", ran.stderr);
}

#[test]
fn check_accepts_what_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(directory.path(), "[cpu]\nthreads = 1\n");
    let ran = run(&mut windlassd(&["--config", &path, "--check"]), b"").ok();
    assert!(ran.text().contains(&path), "{}", ran.text());
    run(&mut windlassd(&["--check"]), b"").ok();
}

#[test]
fn wrong_use_is_told_with_status_2() {
    for arguments in [&["--no-such-flag"][..], &["--config"], &["serve"], &["--check", "--print-config"]] {
        let ran = run(&mut windlassd(arguments), b"");
        assert_eq!(ran.status, Some(2), "{arguments:?}");
        assert!(ran.stderr.contains("error: ") && ran.stderr.contains("--help"), "{}", ran.stderr);
    }
}

#[test]
fn a_port_that_is_taken_is_named_with_status_69() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = [("listen.tcp", &*address)];
    let ended = Daemon::launch(Program::Windlassd, &settings, Ready::Ignored, |_| {}).wait();
    assert_eq!(ended.status, Some(69));
    let error = ended.log.iter().find_map(|event| event["error"].as_str()).expect("an error in the log");
    assert!(error.contains(&format!("cannot listen on tcp://{address}")), "{error}");
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(
        directory.path(),
        "[queue]\ncapacity = 11\nmax_wait = \"11s\"\n[limits]\nin_flight_per_connection = 11\n",
    );
    let mut command = windlassd(&["--config", &path, "--set", "queue.capacity=33", "--print-config"]);
    command.env("WINDLASS__QUEUE__CAPACITY", "22").env("WINDLASS__QUEUE__MAX_WAIT", "22s");
    let ran = run(&mut command, b"").ok();
    assert_eq!(printed(&ran, "queue", "capacity"), "33 # --set");
    assert_eq!(
        printed(&ran, "queue", "max_wait"),
        "\"22s\" # environment variable WINDLASS__QUEUE__MAX_WAIT"
    );
    let in_file = format!("11 # file {path}, line 5");
    assert_eq!(printed(&ran, "limits", "in_flight_per_connection"), in_file);
    assert_eq!(printed(&ran, "limits", "body"), "\"64MiB\" # built-in default");
}

#[test]
fn what_is_printed_is_accepted_back_and_means_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let given = ["--set", "operations.enabled=echo,hash", "--set", "limits.body=5MiB", "--print-config"];
    let first = run(&mut windlassd(&given), b"").ok();
    let path = file(directory.path(), first.text());
    let second = run(&mut windlassd(&["--config", &path, "--print-config"]), b"").ok();
    let values = |ran: &Ran| -> Vec<String> {
        let value = |line: &str| line.split(" # ").next().unwrap().to_owned();
        ran.text().lines().skip(1).map(value).collect()
    };
    assert_eq!(values(&first), values(&second));
    assert!(values(&first).len() > 50);
}

/// Sends SIGHUP and waits until `told` times `text` was logged.
#[track_caller]
fn reload(daemon: &Daemon, text: &str, told: usize) {
    daemon.signal(Signal::HUP);
    windlass_tests::eventually(text, || {
        let log = daemon.log();
        let found = log.iter().filter(|event| event["message"].as_str().is_some_and(|m| m.contains(text)));
        (found.count() >= told).then_some(())
    });
}

fn code(connection: &mut Raw) -> Option<FailureCode> {
    connection.frame().unwrap().failure().map(|(code, ..)| code)
}

#[test]
fn a_reload_takes_limits_operations_and_log_level_as_one() {
    let scratch = tempfile::tempdir().unwrap();
    let path = file(scratch.path(), "[limits]\nbody = \"1KiB\"\nin_flight_per_connection = 2\n");
    let daemon = Daemon::launch(Program::Windlassd, &[], Ready::Awaited, |command| {
        command.args(["--config", &path]);
    });
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "echo", &[], &[0; 1025]));
    assert_eq!(code(&mut connection), Some(FailureCode::TOO_LARGE));
    assert!(!daemon.log().iter().any(|event| event["level"] == "DEBUG"));

    file(
        scratch.path(),
        "[limits]\nbody = \"2KiB\"\nin_flight_per_connection = 1\n[operations]\nenabled = [\"echo\"]\n\
         [log]\nlevel = \"debug\"\n[io]\nthreads = 1000\n[listen]\nadmin = \"127.0.0.1:1\"\n",
    );
    reload(&daemon, "new settings are in force", 1);
    let changed = daemon.wait_for_log("configuration reloaded")["changed"].to_string();
    for key in ["limits.body", "limits.in_flight_per_connection", "operations.enabled", "log.level"] {
        assert!(changed.contains(key), "{changed}");
    }
    let restarts: Vec<Value> = daemon
        .log()
        .iter()
        .filter(|event| event["message"].as_str().is_some_and(|text| text.contains("needs a restart")))
        .map(|event| event["key"].clone())
        .collect();
    // The flag that gives every daemon of a test its own port is above the file.
    assert_eq!(restarts, ["io.threads"]);
    connection.send(&raw::work(2, "echo", &[], &[0; 2048]));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
    connection.send(&raw::work(3, "echo", &[("delay", "20s")], b""));
    connection.send(&raw::work(4, "echo", &[], b""));
    assert_eq!(code(&mut connection), Some(FailureCode::OVERLOADED));
    connection.send(&raw::cancel(3));
    assert_eq!(code(&mut connection), Some(FailureCode::CANCELLED));
    connection.send(&raw::work(5, "hash", &[], b""));
    assert_eq!(code(&mut connection), Some(FailureCode::UNKNOWN_OPERATION));
    drop(Raw::open(daemon.host_port()));
    daemon.wait_for_log("connection closed");

    file(scratch.path(), "[limits]\nbody = \"none\"\nin_flight_per_connection = 9\n");
    reload(&daemon, "reload refused", 1);
    let refused = daemon.wait_for_log("reload refused");
    assert!(refused["problems"].as_str().unwrap().contains("limits.body = \"none\""), "{refused}");
    connection.send(&raw::work(6, "echo", &[], &[0; 2048]));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
    connection.send(&raw::work(7, "hash", &[], b""));
    assert_eq!(code(&mut connection), Some(FailureCode::UNKNOWN_OPERATION));
}

#[test]
fn a_request_keeps_the_settings_that_it_was_admitted_under() {
    let scratch = tempfile::tempdir().unwrap();
    let path = file(scratch.path(), "");
    let daemon = Daemon::launch(Program::Windlassd, &[], Ready::Awaited, |command| {
        command.args(["--config", &path]);
    });
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "echo", &[("delay", "700ms")], b"admitted before"));
    connection.send(&raw::ping(1, b""));
    assert_eq!(connection.frame().unwrap().kind, Kind::Pong);
    file(scratch.path(), "[operations]\nenabled = [\"hash\"]\n[limits]\nbody = \"1B\"\n");
    reload(&daemon, "new settings are in force", 1);
    connection.send(&raw::work(2, "echo", &[], b""));
    assert_eq!(code(&mut connection), Some(FailureCode::UNKNOWN_OPERATION));
    assert_eq!(connection.frame().unwrap().body, b"admitted before");
}

#[test]
fn sigusr1_logs_what_every_worker_is_doing() {
    let daemon = Daemon::start(&[("cpu.threads", "2")]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "spin", &[("for", "20s")], b""));
    daemon.wait_until_running("spin", 1);
    daemon.signal(Signal::USR1);
    let busy = daemon.wait_for_log("worker is busy");
    let idle = daemon.wait_for_log("worker is idle");
    assert_eq!(busy["operation"], "spin");
    assert!(busy["for_ms"].is_u64() && busy["connection"].is_u64(), "{busy}");
    assert_ne!(busy["worker"], idle["worker"]);
}
