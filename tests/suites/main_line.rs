//! A request in, work on the CPU pool, the answer out, SIGTERM drained.

use windlass_protocol::{FailureCode, Header, Kind, Reply};
use windlass_tests::{Daemon, raw};

#[test]
fn a_request_goes_through_a_worker_and_comes_back() {
    let daemon = Daemon::start(&[]);
    let mut connection = raw::Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "hash", &[("algorithm", "sha256")], b"abc"));
    let reply = connection.frame().unwrap();
    assert_eq!((reply.kind, reply.id), (Kind::Reply, 1));
    assert_eq!(reply.body, b"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    drop(connection);
    assert_eq!(daemon.drain().status, Some(0));
}

#[test]
fn requests_that_follow_hello_at_once_are_all_answered() {
    let daemon = Daemon::start(&[]);
    let mut connection = raw::Raw::connect(daemon.host_port());
    let mut bytes = raw::greeting();
    for id in 1..=1000 {
        bytes.extend(raw::work(id, "echo", &[], &id.to_le_bytes()));
    }
    bytes.extend(raw::close());
    connection.send(&bytes);
    let frames = connection.rest();
    let mut ids: Vec<u64> = frames
        .iter()
        .filter(|frame| frame.kind == Kind::Reply)
        .inspect(|frame| assert_eq!(frame.body, frame.id.to_le_bytes()))
        .map(|frame| frame.id)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=1000).collect::<Vec<u64>>());
    let kinds: Vec<Kind> = frames.iter().rev().take(2).map(|frame| frame.kind).collect();
    assert_eq!(kinds, [Kind::GoAway, Kind::Closed]);
}

#[test]
#[allow(clippy::cast_possible_truncation, reason = "any byte will do")]
fn large_bodies_in_a_row_come_back_as_they_were_whatever_is_between_them() {
    const SIZES: [usize; 14] = [
        70_000,
        70_000,
        70_001,
        100,
        70_000,
        70_000,
        69_000,
        40_000,
        1 << 20,
        1 << 20,
        65_536,
        65_536,
        5 << 20,
        70_000,
    ];
    let daemon = Daemon::start(&[]);
    let mut connection = raw::Raw::open(daemon.host_port());
    let mut bytes = Vec::new();
    let mut sent = Vec::new();
    for (id, size) in (1..).zip(SIZES) {
        let body: Vec<u8> = (0..size).map(|index| ((index % 251) as u64 ^ id) as u8).collect();
        // Alone, so that nothing of the next one lies behind it; and closely behind each other.
        if id % 3 > 0 {
            connection.send(&raw::work(100 + id, "echo", &[], &body));
            let frame = connection.frame().unwrap();
            assert!(frame.id == 100 + id && frame.body == body, "{size} bytes: {:?}", frame.failure());
        }
        bytes.extend(raw::work(200 + 2 * id, "echo", &[], &body));
        bytes.extend(raw::work(
            201 + 2 * id,
            "password-verify",
            &[("hash", "$2b$")],
            &body[..size.min(4096)],
        ));
        sent.push((200 + 2 * id, body));
    }
    bytes.extend(raw::close());
    let mut writer = connection.stream().try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        use std::io::Write;
        bytes.chunks(100_003).for_each(|chunk| writer.write_all(chunk).unwrap());
    });
    let mut replies: Vec<_> =
        connection.rest().into_iter().filter(|frame| frame.kind == Kind::Reply).collect();
    writing.join().unwrap();
    replies.sort_unstable_by_key(|frame| frame.id);
    assert_eq!(replies.len(), sent.len());
    for (frame, (id, body)) in replies.iter().zip(&sent) {
        assert!(frame.id == *id && frame.body == *body, "request {id} of {} bytes", body.len());
    }
}

#[test]
fn an_unknown_operation_is_named_with_those_there_are() {
    let daemon = Daemon::start(&[]);
    let mut connection = raw::Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "hsah", &[], b""));
    let (code, message, _) = connection.frame().unwrap().failure().unwrap();
    assert_eq!(code, FailureCode::UNKNOWN_OPERATION);
    assert!(message.contains("hsah") && message.contains("hash"), "{message}");
}

/// W-65
#[test]
fn a_connection_on_which_nothing_is_asked_is_ended_without_blame() {
    let daemon = Daemon::start(&[("timeouts.idle", "100ms")]);
    let mut connection = raw::Raw::open(daemon.host_port());
    let last: Vec<_> = connection.rest().iter().map(raw::Frame::go_away).collect();
    assert_eq!(last, [Some((0, 0))]);
}

/// W-45, W-46: batch work waits behind interactive work, and a priority that is not known yet is batch.
#[test]
fn a_priority_of_a_later_version_is_read_as_batch() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let mut connection = raw::Raw::open(daemon.host_port());
    // The only worker is busy with batch work; then comes more of it, and last an interactive request.
    connection.send(&raw::work_of(1, 1, "spin", &[("for", "60s")]));
    daemon.wait_until_running("spin", 1);
    let long = raw::work_of(0, 3, "spin", &[("for", "20ms")]);
    connection.send(&[raw::work_of(200, 2, "echo", &[]), long].concat());
    daemon.wait_for_status("both wait", |status| status["queue"]["waiting"] == 2);
    connection.send(&raw::cancel(1));
    assert_eq!(connection.frame().unwrap().id, 1);
    let mut replies = [connection.frame().unwrap(), connection.frame().unwrap()];
    replies.sort_by_key(|reply| reply.id);
    let waited = |frame: &raw::Frame| Reply::decode(&frame.header).unwrap().queue_time;
    // They came together; within a class the short one would be first.
    assert!(waited(&replies[0]) >= waited(&replies[1]) + 20_000, "{replies:?}");
    let load = |frame: &raw::Frame| Reply::decode(&frame.header).unwrap().load;
    assert!(replies.iter().all(|reply| load(reply) <= 100));
}
