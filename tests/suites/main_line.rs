//! A request in, work on the CPU pool, the answer out, SIGTERM drained.

use windlass_protocol::{FailureCode, Kind};
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
fn an_unknown_operation_is_named_with_those_there_are() {
    let daemon = Daemon::start(&[]);
    let mut connection = raw::Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "hsah", &[], b""));
    let (code, message, _) = connection.frame().unwrap().failure().unwrap();
    assert_eq!(code, FailureCode::UNKNOWN_OPERATION);
    assert!(message.contains("hsah") && message.contains("hash"), "{message}");
}
