//! Who comes in numbers, too slowly, or does not listen: each is answered, and everybody else is unharmed.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use windlass_protocol::{FailureCode, Kind, PREFACE};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, PATIENCE, eventually};

const OVERLOADED: u16 = 20;

#[track_caller]
fn assert_echoes(connection: &mut Raw, id: u64) {
    connection.send(&raw::work(id, "echo", &[], b"well"));
    let frame = connection.frame().unwrap();
    assert_eq!(
        (frame.kind, frame.id, &*frame.body),
        (Kind::Reply, id, &b"well"[..]),
        "{:?}",
        frame.failure()
    );
}

/// W-8: also for those who have said all they have to say already.
#[test]
fn a_hundred_connections_over_the_limit_all_read_why_and_harm_nobody() {
    const LIMIT: usize = 10;
    let daemon = Daemon::start(&[("limits.connections", "10")]);
    let mut inside: Vec<Raw> = (0..LIMIT).map(|_| Raw::open(daemon.host_port())).collect();
    let mut outside: Vec<Raw> = (0..100).map(|_| Raw::connect(daemon.host_port())).collect();
    for connection in outside.iter_mut().step_by(2) {
        // It may be on its way out already.
        let _ =
            connection.stream().write_all(&[raw::greeting(), raw::work(1, "echo", &[], b"hello")].concat());
    }
    for (index, connection) in outside.iter_mut().enumerate() {
        let frames = connection.rest();
        assert_eq!(frames.len(), 2, "{index}: {frames:?}");
        let (code, message, retry_safe) = frames[0].failure().unwrap();
        assert_eq!((frames[0].id, code, retry_safe), (0, FailureCode::OVERLOADED, true));
        assert!(message.contains("limits.connections"), "{message}");
        assert_eq!(frames[1].go_away(), Some((0, OVERLOADED)));
    }
    inside.iter_mut().for_each(|connection| assert_echoes(connection, 1));
    assert_eq!(raw::status(&mut inside[0])["connections"]["refused"], 100);
    drop(inside);
    eventually("there is a place again", || {
        let mut connection = Raw::connect(daemon.host_port());
        // A refusal may meet it half way.
        let _ = connection.stream().write_all(&raw::greeting());
        let frame = connection.frame().unwrap();
        (frame.kind == Kind::Welcome).then(|| assert_echoes(&mut connection, 1))
    });
}

fn limit_descriptors(daemon: &Daemon, current: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let current = current.or(maximum);
    prlimit(Some(pid), Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

#[test]
fn running_out_of_descriptors_is_survived_logged_now_and_then_and_over_when_there_are_more() {
    const SPARE: usize = 5;
    let daemon = Daemon::start(&[]);
    let mut first = Raw::open(daemon.host_port());
    let descriptors: Vec<u64> = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    // The limit is one above the highest number that is given out; what is open above it stays open.
    let mut free = (0..).filter(|number| !descriptors.contains(number));
    let limit = free.nth(SPARE).expect("numbers do not end");
    limit_descriptors(&daemon, Some(limit));
    let mut all: Vec<Raw> = (0..50)
        .map(|_| {
            let mut connection = Raw::connect(daemon.host_port());
            connection.send(&raw::greeting());
            connection
        })
        .collect();
    let shortage =
        |event: &&Value| event["message"].as_str().is_some_and(|m| m.contains("no connection can"));
    let events = eventually("the shortage is logged again", || {
        let events: Vec<Value> = daemon.log().iter().filter(shortage).cloned().collect();
        (events.len() >= 3).then_some(events)
    });
    // One line for many attempts, not one for each.
    for event in &events[1..] {
        assert!(event["times"].as_u64().unwrap() > 1, "{event}");
        assert!(event["error"].as_str().unwrap().contains("Too many open files"), "{event}");
    }
    assert_echoes(&mut first, 1);
    assert_eq!(raw::status(&mut first)["connections"]["open"], 1 + SPARE);
    limit_descriptors(&daemon, None);
    for connection in &mut all {
        assert_eq!(connection.frame().unwrap().kind, Kind::Welcome);
        assert_echoes(connection, 1);
    }
    assert_eq!(daemon.drain().status, Some(0));
}

/// W-78
#[test]
fn a_client_that_never_reads_is_not_read_from_and_let_go() {
    const BODY: usize = 256 * 1024;
    let settings = [
        ("timeouts.write", "1s"),
        ("limits.unwritten_per_connection", "512KiB"),
        ("limits.in_flight_per_connection", "32"),
    ];
    let daemon = Daemon::start(&settings);
    let mut other = Raw::open(daemon.host_port());
    let mut deaf = Raw::open(daemon.host_port());
    let mut sent = 0;
    let mut other_id = 0;
    let mut held_max = 0;
    deaf.stream().set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let hung_up = 'sending: loop {
        let request = raw::work(sent / BODY as u64 + 1, "echo", &[], &[7; BODY]);
        let mut rest = &request[..];
        while !rest.is_empty() {
            match deaf.stream().write(rest) {
                Ok(written) => {
                    sent += written as u64;
                    rest = &rest[written..];
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    other_id += 1;
                    assert_echoes(&mut other, other_id);
                    let held = &raw::status(&mut other)["queue"]["held_bytes"];
                    held_max = held_max.max(held.as_u64().unwrap());
                }
                Err(error) => break 'sending error,
            }
        }
        // The buffers of the two sockets are the system's; what the daemon reads on top of them is its own.
        assert!(sent < 1 << 30, "it reads on and on");
    };
    assert!(matches!(hung_up.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{hung_up}");
    assert!(other_id > 0);
    // Input and output of each request in flight, what is unwritten, and the answer that passes that limit.
    let bound = (32 * 2 + 2 + 1) * BODY as u64;
    assert!(held_max <= bound, "{held_max} bytes held for a client that does not read");
    daemon.wait_for_log("does not read its answers");
    daemon.wait_for_status("nothing is left of it", |status| {
        status["queue"]["held_bytes"] == 0 && status["queue"]["admitted"] == 0
    });
}

/// Sends a byte every now and then until the daemon answers, and gives the message on id 0.
#[track_caller]
fn drip(daemon: &Daemon, opening: &[u8], mut next: impl FnMut() -> Option<u8>) -> String {
    let mut connection = Raw::connect(daemon.host_port());
    connection.send(opening);
    connection.stream().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut answer = Vec::new();
    let until = Instant::now() + PATIENCE;
    loop {
        let mut buffer = [0; 4096];
        match connection.stream().read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&buffer[..read]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        assert!(Instant::now() < until, "a byte now and then is enough to stay for ever");
        // It may have hung up in between.
        let _ = next().map(|byte| connection.stream().write_all(&[byte]));
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with(&PREFACE), "{text}");
    text
}

/// W-76, W-77: whatever the bytes belong to.
#[test]
fn a_byte_now_and_then_is_no_progress() {
    let daemon = Daemon::start(&[("timeouts.handshake", "500ms"), ("timeouts.read", "500ms")]);
    let mut other = Raw::open(daemon.host_port());
    let greeting = raw::greeting();
    for (place, whole) in [("the preface", 0), ("the prefix of Hello", 10), ("the header of Hello", 25)] {
        let mut rest = greeting[whole..greeting.len() - 1].iter().copied();
        let text = drip(&daemon, &greeting[..whole], || rest.next());
        assert!(text.contains("timeouts.handshake"), "in {place}: {text}");
    }
    // Frames of a kind that is skipped, each of them whole in time.
    let mut skipped = std::iter::repeat([200].into_iter().chain([0; 15])).flatten();
    let text = drip(&daemon, &PREFACE, || skipped.next());
    assert!(text.contains("timeouts.handshake"), "before Hello: {text}");

    let frame = raw::work(1, "echo", &[("delay", &"x".repeat(4000))], &[7; 100_000]);
    let body = raw::work(1, "echo", &[], &[7; 100_000]);
    let places = [("the prefix", &frame, 3), ("the header", &frame, 200), ("the body", &body, 70_000)];
    for (place, frame, whole) in places {
        let mut rest = frame[whole..].iter().copied();
        let text = drip(&daemon, &[&greeting, &frame[..whole]].concat(), || rest.next());
        assert!(text.contains("timeouts.read"), "in {place}: {text}");
    }
    assert_echoes(&mut other, 1);
    daemon.wait_for_status("nothing is left of them", |status| status["queue"]["held_bytes"] == 0);
}

/// W-36, W-37
#[test]
fn a_body_over_the_limit_is_read_off_so_that_the_refusal_can_be_read() {
    let daemon = Daemon::start(&[("limits.body", "64MiB")]);
    for mib in [65, 200] {
        let mut connection = Raw::open(daemon.host_port());
        connection.send(&raw::work(1, "echo", &[], &vec![7; mib << 20]));
        let frames = connection.rest();
        let (code, message, retry_safe) = frames[0].failure().unwrap();
        assert_eq!((frames[0].id, code, retry_safe), (1, FailureCode::TOO_LARGE, true));
        assert!(message.contains("limits.body"), "{message}");
        assert_eq!(frames[1].go_away(), Some((1, FailureCode::TOO_LARGE.number())));
        assert_eq!(frames.len(), 2);
    }
}

/// W-36: up to 1 MiB is skipped, and the connection lives on.
#[test]
fn a_small_body_over_the_limit_costs_only_its_request() {
    let daemon = Daemon::start(&[("limits.body", "1KiB")]);
    let mut connection = Raw::open(daemon.host_port());
    for (id, size) in [(1, 1025), (2, 100_000), (3, 1 << 20)] {
        connection.send(&raw::work(id, "echo", &[], &vec![7; size]));
        let frame = connection.frame().unwrap();
        assert_eq!((frame.id, frame.failure().unwrap().0), (id, FailureCode::TOO_LARGE));
    }
    assert_echoes(&mut connection, 4);
}
