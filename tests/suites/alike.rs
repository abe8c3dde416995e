//! Requests that come together and are alike: each has the answer that it would have had alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use windlass_protocol::{
    Extensions, FLAG_MORE, FailureCode, Header, Kind, PRIORITY_BATCH, PRIORITY_INTERACTIVE, Reply, Work,
    append_frame,
};
use windlass_tests::raw::{self, Frame, Raw};
use windlass_tests::{Daemon, Gate};

/// The place of the flags in a prefix.
const FLAGS_AT: usize = 1;

/// What is held before it is given to a worker.
const HELD: u8 = 8;

/// What a client may ask for: all of it short, much of it alike.
fn request(which: u8, id: u64) -> Vec<u8> {
    let in_parts = |mut frame: Vec<u8>| {
        frame[FLAGS_AT] |= FLAG_MORE;
        frame
    };
    match which {
        0..4 => raw::work(id, "echo", &[], b"one"),
        4..6 => raw::work(id, "echo", &[], b"two"),
        6 => raw::work(id, "echo", &[], b"three"),
        7 => raw::work(id, "echo", &[], b""),
        HELD => raw::work(id, "echo", &[("delay", "20ms")], b"one"),
        9 => raw::work(id, "hash", &[("algorithm", "crc32c")], b"one"),
        10 => raw::work(id, "hash", &[("algorithm", "rot13")], b"one"),
        11 => raw::work_within(id, "echo", &[], Some(0), b"one"),
        12 => raw::work_within(id, "echo", &[], Some(30_000), b"one"),
        13 => raw::work_of(PRIORITY_BATCH, id, "echo", &[]),
        14 => in_parts(raw::work(id, "echo", &[], b"one")),
        15 => raw::work(id, "password-verify", &[("hash", "$none$")], b"one"),
        _ => raw::work(id, "none", &[], b"one"),
    }
}

/// What an answer says, without its times.
fn said(frame: &Frame) -> (Kind, Option<(FailureCode, bool)>, Vec<u8>) {
    (frame.kind, frame.failure().map(|(code, _, retry_safe)| (code, retry_safe)), frame.body.clone())
}

#[test]
fn requests_of_one_write_are_answered_as_those_of_a_write_each() {
    let daemon = Daemon::start(&[]);
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..40 {
        let asked: Vec<u8> = (0..60)
            .scan(0, |last, _| {
                // Runs of what is alike, as clients send them.
                *last = if random.u8(..) < 100 { random.u8(0..=16) } else { *last };
                Some(*last)
            })
            .collect();
        let (mut alone, mut together) = (Raw::open(daemon.host_port()), Raw::open(daemon.host_port()));
        let frames: Vec<Vec<u8>> = (1..).zip(&asked).map(|(id, which)| request(*which, id)).collect();
        let sent_at = Instant::now();
        together.send(&frames.concat());
        let mut answers = BTreeMap::new();
        for frame in frames.iter().map(|_| together.frame().expect("an answer")) {
            let is_held = asked[usize::try_from(frame.id).unwrap() - 1] == HELD;
            assert!(!is_held || sent_at.elapsed() >= Duration::from_millis(20), "round {round}: not held");
            answers.insert(frame.id, said(&frame));
        }
        for (id, frame) in (1..).zip(&frames) {
            alone.send(frame);
            let expected = said(&alone.frame().expect("an answer"));
            let which = asked[usize::try_from(id).unwrap() - 1];
            assert_eq!(answers.remove(&id), Some(expected), "round {round}, request {id} of kind {which}");
        }
        assert!(answers.is_empty());
    }
    let status = daemon.status();
    assert_eq!((&status["in_flight"], &status["queue"]["held_bytes"]), (&0.into(), &0.into()));
}

/// W-39
#[test]
fn as_many_of_a_write_as_may_be_in_flight_are_taken() {
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("limits.in_flight_per_connection", "10")]);
    let gate = Gate::hold(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    let frames: Vec<Vec<u8>> = (1..=14).map(|id| request(0, id)).collect();
    connection.send(&frames.concat());
    for id in 11..=14 {
        let refused = connection.frame().unwrap();
        let (code, message, retry_safe) = refused.failure().unwrap();
        assert_eq!((refused.id, code, retry_safe), (id, FailureCode::OVERLOADED, true));
        assert!(message.contains("in flight"), "{message}");
    }
    gate.release();
    for id in 1..=10 {
        let answer = connection.frame().unwrap();
        assert_eq!((answer.id, &*answer.body), (id, &b"one"[..]));
    }
}

#[test]
fn as_many_of_a_write_as_there_is_memory_for_are_taken() {
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("queue.memory", "64KiB"), ("limits.body", "4KiB")]);
    let gate = Gate::hold(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    let frames: Vec<Vec<u8>> = (1..=20).map(|id| raw::work(id, "echo", &[], &[7; 4096])).collect();
    connection.send(&frames.concat());
    // The input of each, which is its output, and what a request takes besides.
    for id in 15..=20 {
        let refused = connection.frame().unwrap();
        let (code, message, retry_safe) = refused.failure().unwrap();
        assert_eq!((refused.id, code, retry_safe), (id, FailureCode::OVERLOADED, true), "{message}");
        assert!(message.contains("queue.memory"), "{message}");
    }
    let held = daemon.status()["queue"]["held_bytes"].as_u64().unwrap();
    assert!(held <= 64 * 1024, "{held} bytes are held");
    gate.release();
    let answered: BTreeSet<u64> = (1..=14).map(|_| connection.frame().unwrap().id).collect();
    assert_eq!(answered, (1..=14).collect());
}

/// W-31
#[test]
fn an_id_that_does_not_increase_ends_the_connection_however_alike_the_requests_are() {
    let daemon = Daemon::start(&[]);
    for repeated in [3, 2, 0] {
        let mut connection = Raw::open(daemon.host_port());
        let frames: Vec<Vec<u8>> = [1, 2, 3, repeated, 4].map(|id| request(0, id)).into();
        connection.send(&frames.concat());
        let read = connection.rest();
        assert!(
            read.iter()
                .any(|frame| frame.failure().is_some_and(|(code, ..)| code == FailureCode::PROTOCOL_ERROR)),
            "{read:?}"
        );
        assert!(!read.iter().any(|frame| frame.id == 4), "{read:?}");
    }
}

/// How frames are sent.
#[derive(Clone, Copy, Debug)]
enum Sent {
    InOneWrite,
    /// So that each is read by itself.
    Apart,
}

/// Sends frames; gives back what was answered before the last of them was read.
fn send(connection: &mut Raw, frames: &[Vec<u8>], how: Sent) -> Vec<Frame> {
    let mut read = Vec::new();
    let writes = match how {
        Sent::InOneWrite => vec![frames.concat()],
        Sent::Apart => frames.to_vec(),
    };
    for bytes in writes {
        connection.send(&[bytes, raw::ping(1, b"")].concat());
        read.extend(std::iter::from_fn(|| connection.frame().filter(|frame| frame.kind != Kind::Pong)));
    }
    read
}

/// A request with so much besides that nobody keeps its header.
fn long_headed(id: u64, body: &[u8]) -> Vec<u8> {
    let header = Work {
        operation: "echo",
        parameters: Vec::new(),
        sent_at: 0,
        deadline: None,
        priority: PRIORITY_INTERACTIVE,
        body_total: None,
        extensions: Extensions(vec![(2, &[0; 200])]),
    };
    let mut frame = Vec::new();
    append_frame(&mut frame, Kind::Work, id, &header, body);
    frame
}

/// What is known of the last request is of the last whose header is kept.
#[test]
fn requests_of_one_write_hold_as_much_as_those_of_a_write_each() {
    let frames = [
        raw::work(1, "echo", &[], b"one"),
        long_headed(2, &[1; 1000]),
        raw::work(3, "echo", &[], b"one"),
        raw::work(4, "echo", &[], b"one"),
    ];
    let held = [Sent::InOneWrite, Sent::Apart].map(|how| {
        let daemon = Daemon::start(&[("cpu.threads", "1")]);
        let _gate = Gate::hold(&daemon);
        let before = daemon.status()["queue"]["held_bytes"].as_u64().unwrap();
        let mut connection = Raw::open(daemon.host_port());
        assert_eq!(send(&mut connection, &frames, how), []);
        let status = daemon.wait_for_status("all of them wait", |status| status["queue"]["waiting"] == 4);
        status["queue"]["held_bytes"].as_u64().unwrap() - before
    });
    assert_eq!(held[0], held[1]);
}

/// The second would wait for the first, although they ask for the same.
#[test]
fn requests_of_one_write_are_refused_for_their_wait_like_those_of_a_write_each() {
    // Of the 88 s that it need not run, a request may wait for 66; the worker is free in 60.
    let spin = |id| raw::work_within(id, "spin", &[("for", "10s")], Some(98_000), b"");
    let frames: Vec<Vec<u8>> = (1..=6).map(spin).collect();
    for how in [Sent::InOneWrite, Sent::Apart] {
        let daemon = Daemon::start(&[("cpu.threads", "1")]);
        let _gate = Gate::hold(&daemon);
        let mut connection = Raw::open(daemon.host_port());
        let refused = send(&mut connection, &frames, how);
        assert_eq!(refused.iter().map(|frame| frame.id).collect::<Vec<_>>(), [2, 3, 4, 5, 6], "{how:?}");
        for frame in refused {
            let (code, message, retry_safe) = frame.failure().unwrap();
            assert_eq!((code, retry_safe), (FailureCode::OVERLOADED, true), "{message}");
        }
    }
}

#[test]
fn requests_of_one_write_have_the_deadline_that_each_of_them_gives() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "1")]);
    let _gate = Gate::hold_unforeseen(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    let frames: Vec<Vec<u8>> = (1..=3).map(|id| raw::work_within(id, "echo", &[], Some(200), b"")).collect();
    connection.send(&frames.concat());
    for id in 1..=3 {
        let expired = connection.frame().unwrap();
        assert_eq!((expired.id, expired.failure().unwrap().0), (id, FailureCode::DEADLINE_EXCEEDED));
    }
}

#[test]
fn requests_of_one_write_have_the_priority_that_each_of_them_gives() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    // Batch work, so that this class has had its share.
    let mut occupant = Raw::open(daemon.host_port());
    occupant.send(&raw::work_of(PRIORITY_BATCH, 1, "spin", &[("for", "60s")]));
    daemon.wait_until_running("spin", 1);
    let mut connection = Raw::open(daemon.host_port());
    let classes = [(1, PRIORITY_BATCH), (4, PRIORITY_INTERACTIVE)];
    let of_class = |(from, priority)| (from..from + 3).map(move |id| raw::work_of(priority, id, "echo", &[]));
    // Behind those that are interactive, and before the others.
    let long = raw::work_of(PRIORITY_INTERACTIVE, 7, "spin", &[("for", "20ms")]);
    let frames: Vec<Vec<u8>> = classes.into_iter().flat_map(of_class).chain([long]).collect();
    assert_eq!(send(&mut connection, &frames, Sent::InOneWrite), []);
    occupant.send(&raw::cancel(1));
    let waited: BTreeMap<u64, u64> = (1..=7)
        .map(|_| connection.frame().unwrap())
        .map(|frame| (frame.id, Reply::decode(&frame.header).unwrap().queue_time))
        .collect();
    let longest = (4..=6).map(|id| waited[&id]).max().unwrap();
    assert!((1..=3).all(|id| waited[&id] >= longest + 20_000), "{waited:?}");
}
