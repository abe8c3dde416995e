//! SIGTERM and SIGINT: what was accepted is finished, what was not is told so, and the exit status tells how it went.

use rustix::process::Signal;
use serde_json::Value;
use windlass_protocol::{FailureCode, Kind};
use windlass_tests::raw::{self, Frame, Raw};
use windlass_tests::{Daemon, Ended};

const DRAINING: u16 = 21;

/// The last frames of a connection that a drain ends: the rest of its answers, then GoAway with this last id.
#[track_caller]
fn answers_until_go_away(connection: &mut Raw, last_id: u64) -> Vec<Frame> {
    let mut frames = connection.rest();
    let last = frames.pop().expect("a last GoAway");
    assert_eq!(last.go_away(), Some((last_id, DRAINING)), "{frames:#?}");
    frames
}

#[track_caller]
fn send_no_more(connection: &mut Raw) {
    let frame = connection.frame().expect("a first GoAway");
    assert_eq!(frame.go_away(), Some((u64::MAX, DRAINING)), "{frame:?}");
}

#[track_caller]
fn message(ended: &Ended, text: &str) -> Value {
    let found = ended.log.iter().find(|event| event["message"].as_str().is_some_and(|m| m.contains(text)));
    found.unwrap_or_else(|| panic!("no '{text}' in {:#?}", ended.log)).clone()
}

/// Both the process and its log have to name the signal.
#[track_caller]
fn assert_drained(ended: &Ended, why: &str) {
    assert_eq!(ended.status, Some(0), "{:#?}", ended.log);
    assert_eq!(message(ended, "draining")["why"], why);
    message(ended, "drained");
}

/// W-61: what was read before is finished, what is read after is answered Draining; Ping and Query are answered.
#[test]
fn a_drain_finishes_what_was_accepted_and_refuses_the_rest() {
    let daemon = Daemon::start(&[]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "echo", &[("delay", "20s")], b"held"));
    connection.send(&raw::work(2, "echo", &[("delay", "300ms")], b"accepted"));
    connection.send(&raw::ping(1, b"read"));
    assert_eq!(connection.frame().unwrap().kind, Kind::Pong);
    daemon.signal(Signal::TERM);
    send_no_more(&mut connection);
    connection.send(&raw::work(3, "echo", &[], b"late"));
    connection.send(&raw::ping(77, b"still there?"));
    let mut frames: Vec<Frame> = (0..3).map(|_| connection.frame().unwrap()).collect();
    frames.sort_by_key(|frame| frame.id);
    assert_eq!((frames[0].kind, frames[0].id, &*frames[0].body), (Kind::Reply, 2, &b"accepted"[..]));
    let (code, _, retry_safe) = frames[1].failure().unwrap();
    assert_eq!((frames[1].id, code, retry_safe), (3, FailureCode::DRAINING, true));
    assert_eq!((frames[2].kind, frames[2].id), (Kind::Pong, 77));
    assert_eq!(raw::status(&mut connection)["state"], "draining");
    connection.send(&raw::cancel(1));
    let frames = answers_until_go_away(&mut connection, 3);
    assert_eq!(frames.len(), 1, "{frames:#?}");
    assert_eq!(frames[0].failure().unwrap().0, FailureCode::CANCELLED);
    assert_drained(&daemon.wait(), "SIGTERM");
}

#[test]
fn sigint_drains_too() {
    let daemon = Daemon::start(&[]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "echo", &[("delay", "300ms")], b"accepted"));
    connection.send(&raw::ping(1, b"read"));
    assert_eq!(connection.frame().unwrap().kind, Kind::Pong);
    daemon.signal(Signal::INT);
    send_no_more(&mut connection);
    let frames = answers_until_go_away(&mut connection, 1);
    assert_eq!(frames[0].body, b"accepted");
    assert_drained(&daemon.wait(), "SIGINT");
}

/// W-61: Cancelled when the drain's time is over, retry safe for what was not started.
#[test]
fn work_beyond_drain_timeout_is_cancelled_and_the_status_is_75() {
    let settings = [("drain.timeout", "1s"), ("cpu.threads", "1")];
    let daemon = Daemon::start(&settings);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "spin", &[("for", "60s")], b""));
    daemon.wait_until_running("spin", 1);
    connection.send(&raw::work(2, "spin", &[("for", "60s")], b""));
    connection.send(&raw::work(3, "echo", &[("delay", "60s")], b"held"));
    connection.send(&raw::ping(1, b"read"));
    assert_eq!(connection.frame().unwrap().kind, Kind::Pong);
    daemon.signal(Signal::TERM);
    send_no_more(&mut connection);
    let mut frames = answers_until_go_away(&mut connection, 3);
    frames.sort_by_key(|frame| frame.id);
    let cancelled: Vec<_> = frames
        .iter()
        .map(|frame| (frame.id, frame.failure().unwrap().0, frame.failure().unwrap().2))
        .collect();
    let expected = [(1, false), (2, true), (3, true)];
    assert_eq!(cancelled, expected.map(|(id, safe)| (id, FailureCode::CANCELLED, safe)));
    let ended = daemon.wait();
    assert_eq!(ended.status, Some(75));
    message(&ended, "drain.timeout passed");
}

#[test]
fn work_that_does_not_stop_is_answered_for_after_the_grace_and_the_status_is_75() {
    let settings = [("drain.timeout", "200ms"), ("drain.cancel_grace", "200ms"), ("cpu.threads", "1")];
    let daemon = Daemon::start_faulty(&settings);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "fault-stuck", &[], b""));
    daemon.wait_until_running("fault-stuck", 1);
    daemon.signal(Signal::TERM);
    send_no_more(&mut connection);
    let frames = answers_until_go_away(&mut connection, 1);
    let (code, _, retry_safe) = frames[0].failure().unwrap();
    assert_eq!((frames.len(), code, retry_safe), (1, FailureCode::CANCELLED, false));
    let ended = daemon.wait();
    assert_eq!(ended.status, Some(75));
    message(&ended, "drain.cancel_grace passed");
}

#[test]
fn a_second_signal_ends_a_drain_at_once_with_75() {
    for second in [Signal::TERM, Signal::INT] {
        let daemon = Daemon::start(&[("drain.timeout", "10m")]);
        let mut connection = Raw::open(daemon.host_port());
        connection.send(&raw::work(1, "echo", &[("delay", "10s")], b"held"));
        daemon.signal(Signal::TERM);
        send_no_more(&mut connection);
        daemon.signal(second);
        assert_eq!(daemon.wait().status, Some(75), "{second:?}");
    }
}

/// Each of them may take the 250 ms that a client has to close its side, but all of them together.
#[test]
fn idle_connections_are_told_to_go_and_do_not_hold_the_drain() {
    const CONNECTIONS: usize = 200;
    let daemon = Daemon::start(&[]);
    let mut connections: Vec<Raw> = (0..CONNECTIONS).map(|_| Raw::open(daemon.host_port())).collect();
    let ended = daemon.drain();
    assert_drained(&ended, "SIGTERM");
    let took = message(&ended, "drained")["took_ms"].as_u64().unwrap();
    assert!(took < 250 * CONNECTIONS as u64 / 10, "{took} ms for {CONNECTIONS} connections that say nothing");
    for connection in &mut connections {
        send_no_more(connection);
        assert_eq!(answers_until_go_away(connection, 0), []);
    }
}

/// W-61: the process is stopped meanwhile, so that nothing of what the clients do is seen before the signal is.
#[test]
fn connections_that_wait_in_the_backlog_are_served_or_told_not_reset() {
    const CONNECTIONS: usize = 300;
    let daemon = Daemon::start(&[]);
    daemon.signal(Signal::STOP);
    windlass_tests::eventually("the process is stopped", || {
        daemon.process_status("State").filter(|state| state.starts_with('T'))
    });
    let mut connections: Vec<Raw> = (0..CONNECTIONS)
        .map(|_| {
            let mut connection = Raw::connect(daemon.host_port());
            connection.send(&[raw::greeting(), raw::work(1, "echo", &[], b"waited")].concat());
            connection
        })
        .collect();
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    for (index, connection) in connections.iter_mut().enumerate() {
        let frames = connection.rest();
        let last = frames.last().unwrap().go_away().unwrap();
        if frames[0].kind == Kind::Welcome {
            let answer = frames.iter().find(|frame| frame.id == 1).expect("an answer");
            let refused = answer.failure().map(|(code, _, retry_safe)| (code, retry_safe));
            let draining = Some((FailureCode::DRAINING, true));
            assert!(answer.body == b"waited" || refused == draining, "{index}: {frames:#?}");
            assert_eq!(last, (1, DRAINING), "{index}");
        } else {
            let (code, _, retry_safe) = frames[0].failure().unwrap();
            assert_eq!((frames[0].id, code, retry_safe), (0, FailureCode::DRAINING, true), "{index}");
            assert_eq!(last, (0, DRAINING), "{index}");
        }
    }
    assert_drained(&daemon.wait(), "SIGTERM");
}

#[test]
fn a_long_drain_says_what_it_waits_for() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "spin", &[("for", "20s")], b""));
    daemon.wait_until_running("spin", 1);
    daemon.signal(Signal::TERM);
    let event = daemon.wait_for_log("still waiting for");
    assert_eq!(event["connections"], 1);
    assert_eq!(event["requests"], 1);
    assert!(event["left_ms"].as_u64().unwrap() < 30_000, "{event}");
    connection.send(&raw::cancel(1));
    send_no_more(&mut connection);
    assert_eq!(answers_until_go_away(&mut connection, 1)[0].failure().unwrap().0, FailureCode::CANCELLED);
    assert_drained(&daemon.wait(), "SIGTERM");
}

#[test]
fn a_body_that_has_begun_is_read_on_and_answered() {
    const BODY: usize = 300_000;
    let daemon = Daemon::start(&[]);
    let mut connection = Raw::open(daemon.host_port());
    let body: Vec<u8> = (0..BODY).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let frame = raw::work(1, "echo", &[], &body);
    let (first, second) = frame.split_at(BODY / 2);
    connection.send(first);
    daemon.wait_for_status("the head is read", |status| status["queue"]["held_bytes"] != 0);
    daemon.signal(Signal::TERM);
    send_no_more(&mut connection);
    connection.send(second);
    let frames = answers_until_go_away(&mut connection, 1);
    assert_eq!((frames.len(), frames[0].kind, frames[0].id), (1, Kind::Reply, 1));
    assert!(frames[0].body == body);
    assert_drained(&daemon.wait(), "SIGTERM");
}

#[test]
fn while_quiet_the_daemon_serves_as_before() {
    let daemon = Daemon::start(&[("drain.quiet", "1h")]);
    daemon.signal(Signal::TERM);
    daemon.wait_for_status("the daemon is quiet", |status| status["state"] == "quiet");
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "hash", &[("algorithm", "crc32c")], b"123456789"));
    let reply = connection.frame().unwrap();
    assert_eq!((reply.kind, &*reply.body), (Kind::Reply, &b"e3069283"[..]));
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.wait().status, Some(75));

    let daemon = Daemon::start(&[("drain.quiet", "1ms")]);
    assert_eq!(daemon.drain().status, Some(0));
}
