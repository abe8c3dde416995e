//! Work that does harm: an input that makes its operation fail is not tried for ever, and a job that runs away is named.

use windlass_protocol::FailureCode;
use windlass_tests::raw::{self, Frame, Raw};
use windlass_tests::{Daemon, Gate};

fn faulty() -> Daemon {
    Daemon::start_faulty(&[("cpu.threads", "1")])
}

#[track_caller]
fn answer(connection: &mut Raw, id: u64, operation: &str, parameters: &[(&str, &str)], body: &[u8]) -> Frame {
    answer_to(connection, id, &raw::work(id, operation, parameters, body))
}

#[track_caller]
fn answer_to(connection: &mut Raw, id: u64, request: &[u8]) -> Frame {
    connection.send(request);
    let frame = connection.frame().unwrap();
    assert_eq!(frame.id, id);
    frame
}

fn code(frame: &Frame) -> Option<FailureCode> {
    frame.failure().map(|(code, ..)| code)
}

#[track_caller]
fn assert_refused(frame: &Frame) {
    let (code, message, retry_safe) = frame.failure().expect("a Failure");
    assert_eq!((code, retry_safe), (FailureCode::INVALID_INPUT, true), "{message}");
    assert!(message.contains("fail or run away before"), "{message}");
}

#[test]
fn an_input_that_panicked_twice_is_refused_and_others_are_not() {
    let daemon = faulty();
    let mut connection = Raw::open(daemon.host_port());
    for id in [1, 2] {
        let frame = answer(&mut connection, id, "fault-panic", &[], b"bad");
        assert_eq!(code(&frame), Some(FailureCode::INTERNAL));
    }
    // Whoever sends it: the second connection has done nothing.
    let mut other = Raw::open(daemon.host_port());
    for id in 1..=5 {
        assert_refused(&answer(&mut other, id, "fault-panic", &[], b"bad"));
    }
    assert_eq!(code(&answer(&mut other, 6, "fault-panic", &[], b"unlike")), Some(FailureCode::INTERNAL));
    assert_eq!(answer(&mut other, 7, "echo", &[], b"bad").body, b"bad", "another operation takes it");
    assert_eq!(daemon.status()["panics"], 3);
}

#[test]
fn an_input_that_ran_away_twice_is_refused() {
    let daemon = faulty();
    let mut connection = Raw::open(daemon.host_port());
    // A worker of a busy machine begins a little late; it has to have far more than the estimate left.
    let (long, deadline_ms) = ([("for", "1200ms")], Some(1000));
    for id in [1, 2] {
        let request = raw::work_within(id, "fault-stuck", &long, deadline_ms, b"");
        let frame = answer_to(&mut connection, id, &request);
        assert!(frame.failure().is_none(), "late, but whole");
    }
    assert_refused(&answer(&mut connection, 3, "fault-stuck", &long, b""));
    let short = [("for", "1ms")];
    for id in 4..=6 {
        assert!(answer(&mut connection, id, "fault-stuck", &short, b"").failure().is_none());
    }
}

#[test]
fn a_job_that_runs_far_beyond_its_estimate_is_reported_with_who_asked_for_it() {
    let daemon = faulty();
    // Runs until it was seen: whoever looks for such jobs may come late.
    let gate = Gate::hold_unforeseen(&daemon);
    let event = daemon.wait_for_log("a job runs far beyond its estimate");
    assert_eq!(event["operation"], "fault-slow", "{event}");
    assert_eq!(event["connection"], 1, "{event}");
    assert!(event["for_ms"].as_u64() >= Some(1000), "{event}");
    gate.release();
    assert_eq!(daemon.status()["overruns"], 1, "once for each");
}
