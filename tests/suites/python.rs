//! The second implementation, written from SPEC.md alone in Python: its golden suite against the document, its hostile
//! suite against the daemon.

use std::process::Command;

use windlass_tests::{Daemon, python, repository, run};

#[track_caller]
fn assert_passes(mut interpreter: Command, suite: &str, arguments: &[&str]) {
    let path = repository().join("tests/python").join(suite);
    // Nothing is left beside the sources.
    interpreter.arg("-B").arg(path).args(arguments);
    let ran = run(&mut interpreter, b"");
    assert_eq!(ran.status, Some(0), "{suite}:\n{}{}", ran.text(), ran.stderr);
}

#[test]
fn the_python_codec_agrees_with_every_example_of_the_specification() {
    let Some(interpreter) = python() else { return };
    let specification = repository().join("protocol/SPEC.md");
    assert_passes(interpreter, "golden_suite.py", &[specification.to_str().unwrap()]);
}

#[test]
fn the_daemon_withstands_the_hostile_suite() {
    let Some(interpreter) = python() else { return };
    let settings = [
        ("timeouts.handshake", "1s"),
        ("timeouts.read", "1s"),
        // More than a case leaves behind before the daemon has seen that they are gone.
        ("limits.connections", "1000"),
        ("limits.body", "4MiB"),
        ("limits.in_flight_per_connection", "32"),
    ];
    let daemon = Daemon::start(&settings);
    let limits = ["--handshake-timeout-ms", "1000", "--read-timeout-ms", "1000", "--connections", "1000"];
    assert_passes(interpreter, "hostile_suite.py", &[&[daemon.host_port()][..], &limits].concat());
    assert_eq!(daemon.status()["panics"], 0);
    assert_eq!(daemon.drain().status, Some(0));
}
