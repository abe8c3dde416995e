//! What one connection may cost the others: memory it does not read, time it does not keep, secrets it sent.

use std::io::{Read, Write};

use serde_json::Value;
use windlass_protocol::{FailureCode, Kind, SUBJECT_CATALOGUE};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Gate, eventually};

/// Nothing but the fact that is waited for may move a connection on.
const PATIENT: [(&str, &str); 5] = [
    ("timeouts.read", "10m"),
    ("timeouts.write", "10m"),
    ("timeouts.idle", "10m"),
    ("timeouts.deadline_default", "10m"),
    ("timeouts.handshake", "10m"),
];

#[test]
fn a_connection_that_was_not_read_from_is_read_again_once_its_answers_are_taken() {
    let daemon = Daemon::start(&[&PATIENT[..], &[("limits.unwritten_per_connection", "1MiB")]].concat());
    let mut connection = Raw::open(daemon.host_port());
    let large = vec![7; 12 << 20];
    connection.send(&raw::work(1, "echo", &[], &large));
    // The answer is on its way, larger than what the sockets hold.
    let mut first = [0];
    connection.stream().peek(&mut first).unwrap();
    connection.send(&raw::work(2, "echo", &[], b"small"));
    let answers: Vec<raw::Frame> = (0..2).map(|_| connection.frame().unwrap()).collect();
    assert_eq!(answers[0].body, large);
    assert_eq!((answers[1].id, &answers[1].body[..]), (2, &b"small"[..]));
}

#[test]
fn a_peer_that_reads_slower_than_it_asks_costs_no_more_than_its_limit() {
    let daemon = Daemon::start(&[&PATIENT[..], &[("limits.unwritten_per_connection", "1MiB")]].concat());
    let mut connection = Raw::open(daemon.host_port());
    let pings: Vec<u8> = (0..4096).flat_map(|id| raw::ping(id, &[7; 64])).collect();
    let mut reader = connection.stream().try_clone().unwrap();
    let mut writer = connection.stream().try_clone().unwrap();
    let rounds = 400;
    let total = pings.len() * rounds;
    // Always a little behind, so that what is to be written never becomes nothing.
    let behind = 512 * 1024;
    let written = std::thread::spawn(move || (0..rounds).for_each(|_| writer.write_all(&pings).unwrap()));
    let mut left = total - behind;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let read = reader.read(&mut buffer[..left.min(64 * 1024)]).unwrap();
        assert_ne!(read, 0);
        left -= read;
    }
    written.join().unwrap();
    let peak = peak_rss_mib(daemon.pid());
    assert!(peak < 64, "{peak} MiB at the peak, of {} MiB that went through", total >> 20);
}

/// Largest resident memory of a process until now.
fn peak_rss_mib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}

/// W-42: the deadline counts while the body arrives.
#[test]
fn a_body_that_is_late_is_answered_at_its_deadline_and_the_connection_lives() {
    let daemon = Daemon::start(&PATIENT);
    let mut connection = Raw::open(daemon.host_port());
    let whole = raw::work_within(1, "echo", &[], Some(200), &vec![7; 300_000]);
    connection.send(&whole[..100_000]);
    let answer = connection.frame().unwrap();
    let (code, _, retry_safe) = answer.failure().unwrap();
    assert_eq!((answer.id, code, retry_safe), (1, FailureCode::DEADLINE_EXCEEDED, true));
    connection.send(&[&whole[100_000..], &raw::work(2, "echo", &[], b"next")].concat());
    assert_eq!(connection.frame().unwrap().body, b"next");
    assert_eq!(daemon.status()["queue"]["held_bytes"], 0);
}

/// W-44
#[test]
fn what_waits_is_answered_at_its_deadline_while_every_worker_is_still_busy() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "1"), ("queue.max_wait", "10m")]);
    let gate = Gate::hold_unforeseen(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work_within(1, "hash", &[], Some(100), b"abc"));
    let (code, _, retry_safe) = connection.frame().unwrap().failure().unwrap();
    assert_eq!((code, retry_safe), (FailureCode::DEADLINE_EXCEEDED, true));
    assert_eq!(
        daemon.status()["workers"][0]["running"]["operation"],
        "fault-slow",
        "the worker is as busy as before"
    );
    gate.release();
    assert_never_ran(&daemon);
}

#[test]
fn what_waits_longer_than_the_queue_allows_is_answered_then() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "1"), ("queue.max_wait", "100ms")]);
    let gate = Gate::hold_unforeseen(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "hash", &[], b"abc"));
    let (code, _, retry_safe) = connection.frame().unwrap().failure().unwrap();
    assert_eq!((code, retry_safe), (FailureCode::OVERLOADED, true));
    gate.release();
    assert_never_ran(&daemon);
}

/// W-47
#[test]
fn what_is_cancelled_while_it_waits_is_answered_at_once() {
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("queue.max_wait", "10m")]);
    let gate = Gate::hold(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&[raw::work(1, "hash", &[], b"abc"), raw::cancel(1)].concat());
    let (code, _, retry_safe) = connection.frame().unwrap().failure().unwrap();
    assert_eq!((code, retry_safe), (FailureCode::CANCELLED, true));
    gate.release();
    assert_never_ran(&daemon);
}

#[track_caller]
fn assert_never_ran(daemon: &Daemon) {
    let hash = |status: &Value| (status["operations"]["hash"]["dropped"] == 1).then(|| status.clone());
    let status = eventually("a worker drops it", || hash(&daemon.status()));
    assert_eq!(status["operations"]["hash"]["done"], 0);
}

#[test]
fn a_flood_of_questions_is_answered_in_turns_and_in_full() {
    let daemon = Daemon::start(&[&PATIENT[..], &[("limits.unwritten_per_connection", "1MiB")]].concat());
    let mut connection = Raw::open(daemon.host_port());
    let questions: Vec<u8> = (1..=500).flat_map(|id| raw::query(id, SUBJECT_CATALOGUE)).collect();
    connection.send(&questions);
    let ids: Vec<u64> = (0..500)
        .map(|_| connection.frame().unwrap())
        .inspect(|frame| assert_eq!(frame.kind, Kind::Info))
        .map(|frame| frame.id)
        .collect();
    assert_eq!(ids, (1..=500).collect::<Vec<u64>>());
}

/// Law 13: whatever became of a password, the daemon's memory does not have it any more.
#[test]
fn no_password_stays_in_memory_however_it_came_and_whatever_became_of_it() {
    let daemon =
        Daemon::start(&[&PATIENT[..], &[("operations.password-hash.password_max", "1MiB")]].concat());
    let mut connection = Raw::open(daemon.host_port());
    let whole = "secret-that-came-in-one-piece-7f3a";
    let parted = "secret-that-came-in-two-pieces-9c1e";
    let refused = "secret-of-a-refused-request-5d2b";
    let cheap = [("memory", "64KiB"), ("iterations", "1")];
    connection.send(&raw::work(1, "password-hash", &cheap, whole.as_bytes()));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
    let bytes = raw::work(2, "password-hash", &cheap, parted.as_bytes());
    let (head, body) = bytes.split_at(bytes.len() - parted.len());
    connection.send(head);
    // The head is read when what follows it is answered by another connection.
    daemon.status();
    connection.send(&body[..10]);
    daemon.status();
    connection.send(&body[10..]);
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
    connection.send(&raw::work(3, "password-hash", &[("memory", "1GiB")], refused.as_bytes()));
    assert_eq!(connection.frame().unwrap().failure().unwrap().0, FailureCode::INVALID_PARAMETER);
    // After a large request another one is read into memory that becomes its body's, unless that is a secret.
    let expected = "secret-that-came-where-a-body-stays-41fd";
    let begun = "secret-of-which-a-part-came-where-a-body-stays-8e07";
    let unwanted = "secret-that-was-refused-where-a-body-stays-b6c9";
    let mut large = |id: u64, secret: &str, parameters: &[(&str, &str)], cut: usize| {
        connection.send(&raw::work(id, "hash", &[], &[7; 100_000]));
        assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
        let mut body = vec![b'.'; 100_000];
        body[..secret.len()].copy_from_slice(secret.as_bytes());
        let bytes = raw::work(id + 1, "password-hash", parameters, &body);
        connection.send(&bytes[..cut.min(bytes.len())]);
        daemon.status();
        connection.send(&bytes[cut.min(bytes.len())..]);
        connection.frame().unwrap().kind
    };
    assert_eq!(large(4, expected, &cheap, usize::MAX), Kind::Reply);
    assert_eq!(large(6, begun, &cheap, 50_000), Kind::Reply);
    assert_eq!(large(8, unwanted, &[("memory", "1GiB")], usize::MAX), Kind::Failure);
    for secret in [whole, parted, refused, expected, begun, unwanted] {
        assert_eq!(copies_in_memory(daemon.pid(), &secret.as_bytes()[12..]), 0, "{secret}");
    }
}

/// How often `needle` stands in the writable memory of a process.
fn copies_in_memory(pid: u32, needle: &[u8]) -> usize {
    use std::os::unix::fs::FileExt;
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let ranges = maps
        .lines()
        .filter(|line| line.split_whitespace().nth(1).is_some_and(|rights| rights.starts_with("rw")));
    let mut copies = 0;
    for range in ranges {
        let (from, to) = range.split_whitespace().next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // Some ranges, such as those of the kernel, cannot be read.
        if memory.read_exact_at(&mut bytes, from).is_ok() {
            // The first byte alone tells nearly all apart, without a call.
            let is_copy = |window: &&[u8]| window[0] == needle[0] && *window == needle;
            copies += bytes.windows(needle.len()).filter(is_copy).count();
        }
    }
    copies
}
