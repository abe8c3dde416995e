//! More work than there is room or time for: it is refused or stopped, with the right code, and nobody else waits for it.

use std::time::Duration;

use windlass_protocol::{FailureCode, Header, Kind, Reply};
use windlass_tests::http::{Http, request};
use windlass_tests::raw::{self, Frame, Raw};
use windlass_tests::{Daemon, Gate, eventually};

/// Code, retry_safe and message of the next frame, which has to be the Failure of this id.
#[track_caller]
fn failure(connection: &mut Raw, id: u64) -> (FailureCode, bool, String) {
    let frame = connection.frame().unwrap();
    assert_eq!(frame.id, id, "{frame:?}");
    let (code, message, retry_safe) = frame.failure().expect("a Failure");
    (code, retry_safe, message)
}

fn running(status: &serde_json::Value, operation: &str) -> usize {
    let workers = status["workers"].as_array().unwrap();
    workers.iter().filter(|worker| worker["running"]["operation"] == operation).count()
}

/// So many workers, all in a long `spin` of a connection of its own. They are not nice: these tests are about times,
/// also on a machine that is busy.
fn occupied(n_workers: u64, settings: &[(&str, &str)]) -> (Daemon, Raw) {
    let threads = n_workers.to_string();
    let daemon = Daemon::start(&[&[("cpu.threads", &*threads), ("cpu.nice", "0")], settings].concat());
    let mut occupant = Raw::open(daemon.host_port());
    for id in 1..=n_workers {
        occupant.send(&raw::work(id, "spin", &[("for", "25s")], b""));
    }
    daemon.wait_until_running("spin", usize::try_from(n_workers).unwrap());
    (daemon, occupant)
}

/// One worker, held by something that nobody foresees.
fn held(settings: &[(&str, &str)]) -> (Daemon, Gate) {
    let own = [("cpu.threads", "1"), ("cpu.nice", "0")];
    let daemon = Daemon::start_faulty(&[&own[..], settings].concat());
    let gate = Gate::hold_unforeseen(&daemon);
    (daemon, gate)
}

/// W-72
#[test]
fn one_request_more_than_queue_capacity_is_refused_at_once() {
    let (daemon, mut occupant) = occupied(2, &[("queue.capacity", "3")]);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=4 {
        connection.send(&raw::work(id, "hash", &[], b""));
    }
    let (code, retry_safe, message) = failure(&mut connection, 4);
    assert_eq!((code, retry_safe), (FailureCode::OVERLOADED, true));
    assert!(message.contains("queue.capacity"), "{message}");
    assert_eq!(daemon.status()["queue"]["waiting"], 3);
    occupant.send(&[raw::cancel(1), raw::cancel(2)].concat());
    let mut ids = [0; 3].map(|_| connection.frame().unwrap()).map(|frame| (frame.kind, frame.id));
    ids.sort_by_key(|(_, id)| *id);
    assert_eq!(ids, [1, 2, 3].map(|id| (Kind::Reply, id)), "those that waited are done");
    connection.send(&raw::work(5, "hash", &[], b""));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply, "and there is room again");
}

#[test]
fn a_request_that_was_held_is_a_newcomer_when_its_hold_is_over() {
    // One client, whichever door it comes through, whose short jobs are before its next short one.
    let settings = [("queue.fair_by", "address"), ("limits.in_flight_per_connection", "10000")];
    let (daemon, _occupant) = occupied(1, &settings);
    let mut connection = Raw::open(daemon.host_port());
    let queued: Vec<u8> = (1..=6000)
        .flat_map(|id| raw::work_within(id, "spin", &[("for", "900us")], Some(60_000), b""))
        .collect();
    connection.send(&queued);
    daemon.wait_for_status("they wait", |status| status["queue"]["waiting"] == 6000);
    let echo = |id, delay| raw::work_within(id, "echo", delay, Some(6000), b"");
    connection.send(&[echo(7001, &[]), echo(7002, &[("delay", "1ms")])].concat());
    for id in [7001, 7002] {
        let (code, retry_safe, message) = failure(&mut connection, id);
        assert_eq!((code, retry_safe), (FailureCode::OVERLOADED, true), "{message}");
        assert!(message.contains("it would wait some"), "{message}");
    }
    let mut http = Http::connect(daemon.http());
    for path in ["echo", "echo?delay=1ms"] {
        http.send(b"POST /v1/call/");
        http.send(path.as_bytes());
        http.send(b" HTTP/1.1\r\nhost: localhost\r\nwindlass-deadline: 6s\r\ncontent-length: 1\r\n\r\nx");
        let answer = http.answer().unwrap();
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(answer.text().contains("it would wait some"), "{answer:?}");
        assert!(answer.header("retry-after").is_some(), "{answer:?}");
    }
    let status = daemon.status();
    assert_eq!(status["requests"]["echo"]["overloaded"], 4, "each is counted once: {status}");
    assert_eq!(status["queue"]["waiting"], 6000);
}

#[test]
fn bodies_that_do_not_fit_queue_memory_are_refused_at_once() {
    const BODY: usize = 700_000;
    let daemon = Daemon::start(&[("limits.body", "1MiB"), ("queue.memory", "2MiB")]);
    let mut connection = Raw::open(daemon.host_port());
    for id in [1, 2] {
        connection.send(&raw::work(id, "echo", &[("delay", "25s")], &[7; BODY]));
    }
    daemon.wait_for_status("both are held", |status| {
        status["queue"]["held_bytes"].as_u64().is_some_and(|bytes| bytes >= 2 * BODY as u64)
    });
    connection.send(&raw::work(3, "echo", &[], &[7; BODY]));
    let (code, retry_safe, message) = failure(&mut connection, 3);
    assert_eq!((code, retry_safe), (FailureCode::OVERLOADED, true));
    assert!(message.contains("queue.memory"), "{message}");
    connection.send(&raw::work(4, "echo", &[], b"small"));
    assert_eq!(connection.frame().unwrap().body, b"small");
    connection.send(&raw::cancel(1));
    assert_eq!(failure(&mut connection, 1).0, FailureCode::CANCELLED);
    connection.send(&raw::work(5, "echo", &[], &[7; BODY]));
    assert_eq!(connection.frame().unwrap().body.len(), BODY);
    connection.send(&raw::cancel(2));
    daemon.wait_for_status("all of it is given back", |status| status["queue"]["held_bytes"] == 0);
}

/// W-39
#[test]
fn one_request_more_than_allowed_in_flight_is_refused_at_once() {
    let (daemon, _occupant) = occupied(2, &[("limits.in_flight_per_connection", "3")]);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=4 {
        connection.send(&raw::work(id, "hash", &[], b""));
    }
    let refused = connection.frame().unwrap();
    let said = windlass_protocol::Failure::decode(&refused.header).unwrap();
    assert_eq!((refused.id, said.code, said.retry_safe), (4, FailureCode::OVERLOADED.number(), true));
    // 25 s are left of what occupies the workers; the first of three ends by a third of the time for all.
    let told = said.retry_after.expect("when one of them may end");
    assert!((1000..=25_000).contains(&told), "{told} ms");
    let mut other = Raw::open(daemon.host_port());
    other.send(&raw::work(1, "echo", &[("delay", "25s")], b""));
    other.send(&raw::ping(9, b""));
    assert_eq!(other.frame().unwrap().kind, Kind::Pong, "it counts for each connection by itself");
}

/// W-44: the deadline passes in the queue.
#[test]
fn a_deadline_that_passes_in_the_queue_is_told_and_nothing_was_started() {
    let (daemon, gate) = held(&[]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work_within(1, "hash", &[], Some(100), b"abc"));
    let (code, retry_safe, _) = failure(&mut connection, 1);
    assert_eq!((code, retry_safe), (FailureCode::DEADLINE_EXCEEDED, true));
    gate.release();
    daemon.wait_for_status("a worker drops it", |status| status["operations"]["hash"]["dropped"] == 1);
    assert_eq!(daemon.status()["operations"]["hash"]["done"], 0);
}

/// W-44: the deadline passes while it runs; had it begun at once, it would have been in time.
#[test]
fn a_deadline_that_passes_during_the_work_stops_it() {
    let (daemon, gate) = held(&[]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work_within(1, "spin", &[("for", "5s")], Some(6000), b""));
    daemon.wait_for_status("it has waited for too long", |status| {
        status["queue"]["oldest_waiting_seconds"].as_f64() > Some(1.1)
    });
    gate.release();
    let (code, retry_safe, _) = failure(&mut connection, 1);
    assert_eq!((code, retry_safe), (FailureCode::DEADLINE_EXCEEDED, false));
    assert_eq!(daemon.status()["operations"]["spin"]["stopped"], 1);
}

/// W-42, W-43, W-44: known from the header alone, so it is told at once, while every worker is busy.
#[test]
fn a_deadline_that_cannot_be_kept_is_refused_at_once() {
    let (daemon, _occupant) =
        occupied(2, &[("timeouts.deadline_default", "30s"), ("timeouts.deadline_max", "30s")]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work_within(1, "hash", &[], Some(0), b"abc"));
    connection.send(&raw::work_within(2, "spin", &[("for", "2s")], Some(1999), b""));
    connection.send(&raw::work_within(3, "echo", &[("delay", "2s")], Some(1999), b""));
    connection.send(&raw::work_within(4, "spin", &[("for", "31s")], Some(u64::MAX), b""));
    for id in 1..=4 {
        let (code, retry_safe, _) = failure(&mut connection, id);
        assert_eq!((code, retry_safe), (FailureCode::DEADLINE_EXCEEDED, true), "{id}");
    }
}

#[test]
fn whoever_waits_longer_than_queue_max_wait_is_sent_away() {
    let (daemon, _gate) = held(&[("queue.max_wait", "1s")]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "hash", &[], b"abc"));
    let refused = connection.frame().unwrap();
    let said = windlass_protocol::Failure::decode(&refused.header).unwrap();
    assert_eq!((said.code, said.retry_safe), (FailureCode::OVERLOADED.number(), true));
    assert!(said.message.contains("queue.max_wait"), "{}", said.message);
    assert_eq!(said.retry_after, Some(1), "the same request would be admitted at once");
    connection.send(&raw::work(2, "hash", &[], b"abc"));
    daemon.wait_for_status("and it is", |status| status["queue"]["admitted"].as_u64() >= Some(2));
}

/// W-44: what the queue would make too late is told so before it waits, and when to come back.
#[test]
fn what_would_wait_too_long_is_refused_at_once_with_the_time_after_which_it_would_not() {
    let (daemon, gate) = held(&[("queue.max_wait", "10s")]);
    let mut heavy = Raw::open(daemon.host_port());
    for id in 1..=3 {
        heavy.send(&raw::work_within(id, "spin", &[("for", "7s")], Some(600_000), b""));
    }
    let refused = heavy.frame().unwrap();
    let said = windlass_protocol::Failure::decode(&refused.header).unwrap();
    assert_eq!((refused.id, said.code, said.retry_safe), (3, FailureCode::OVERLOADED.number(), true));
    // 14 s are queued. Three quarters of the longest wait may be foreseen, and who was refused comes in again below
    // seven eighths of that: 6.5625 s.
    assert_eq!(said.retry_after, Some(7_437), "{}", said.message);
    assert_eq!(daemon.status()["queue"]["waiting"], 2);
    // A deadline leaves less time than the queue would allow.
    heavy.send(&raw::work_within(4, "spin", &[("for", "2s")], Some(12_000), b""));
    assert_eq!(failure(&mut heavy, 4).0, FailureCode::OVERLOADED);
    // Another client does not stand behind all that.
    let mut light = Raw::open(daemon.host_port());
    light.send(&raw::work_within(1, "hash", &[("algorithm", "crc32c")], Some(8_000), b"123456789"));
    daemon.wait_for_status("it waits", |status| status["queue"]["waiting"] == 3);
    gate.release();
    assert_eq!(light.frame().unwrap().body, b"e3069283");
    // It went before what had waited for longer, of which one runs now.
    daemon.wait_until_running("spin", 1);
    daemon.wait_for_status("one of the heavy ones is left", |status| status["queue"]["waiting"] == 1);
}

/// What never looks at its stop flag goes on, and so does what it occupies.
#[test]
fn what_still_runs_for_a_client_that_has_gone_keeps_its_permit() {
    let settings = [("cpu.threads", "2"), ("queue.capacity", "1")];
    let daemon = Daemon::start_faulty(&settings);
    let mut gone = Raw::open(daemon.host_port());
    for id in 1..=3 {
        gone.send(&raw::work(id, "fault-stuck", &[("for", "1h")], b""));
        daemon.wait_for_status("two run and one waits", |status| {
            running(status, "fault-stuck") == id.min(2) as usize && status["queue"]["admitted"] == id
        });
    }
    drop(gone);
    let mut connection = Raw::open(daemon.host_port());
    daemon.wait_for_status("the connection is gone", |status| status["in_flight"] == 0);
    // The one that waited is swept; those that run keep their places, whoever they run for.
    daemon.wait_for_status("two still run", |status| status["queue"]["admitted"] == 2);
    connection.send(&raw::work(1, "hash", &[], b"abc"));
    daemon.wait_for_status("there is one place to wait", |status| status["queue"]["admitted"] == 3);
    connection.send(&raw::work(2, "hash", &[], b"abc"));
    let (code, _, message) = failure(&mut connection, 2);
    assert_eq!(code, FailureCode::OVERLOADED);
    assert!(message.contains("queue.capacity"), "{message}");
    assert_eq!(running(&daemon.status(), "fault-stuck"), 2);
}

#[test]
fn what_would_wait_for_what_runs_is_refused_at_once() {
    let (daemon, mut occupant) = occupied(2, &[]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&raw::work_within(1, "hash", &[], Some(1000), b"abc"));
    let refused = connection.frame().unwrap();
    let said = windlass_protocol::Failure::decode(&refused.header).unwrap();
    assert_eq!((said.code, said.retry_safe), (FailureCode::OVERLOADED.number(), true), "{}", said.message);
    let told = said.retry_after.expect("when the first of them is done");
    assert!((10_000..=25_000).contains(&told), "{told} ms");
    assert_eq!(daemon.status()["queue"]["waiting"], 0);
    occupant.send(&raw::cancel(1));
    assert_eq!(failure(&mut occupant, 1).0, FailureCode::CANCELLED);
    connection.send(&raw::work_within(2, "hash", &[], Some(1000), b"abc"));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply, "one worker is free");
}

/// W-44: heads alone make nobody wait, so that all of them are admitted; their bodies come when others wait already.
#[test]
fn a_burst_of_heads_does_not_queue_up_beyond_the_deadline_when_the_bodies_come() {
    const REQUESTS: usize = 12;
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("cpu.nice", "0"), ("queue.max_wait", "1m")]);
    let mut native: Vec<Raw> = (0..REQUESTS).map(|_| Raw::open(daemon.host_port())).collect();
    let mut over_http: Vec<Http> = (0..REQUESTS).map(|_| Http::connect(daemon.http())).collect();
    let whole = raw::work_within(1, "spin", &[("for", "2s")], Some(12_000), b"x");
    let (head, body) = whole.split_at(whole.len() - 1);
    native.iter_mut().for_each(|connection| connection.send(head));
    let head = b"POST /v1/call/spin?for=2s HTTP/1.1\r\nhost: localhost\r\nwindlass-deadline: 12s\r\ncontent-length: 1\r\n\r\n";
    over_http.iter_mut().for_each(|http| http.send(head));
    daemon.wait_for_status("all heads are admitted", |status| status["in_flight"] == 2 * REQUESTS as u64);
    assert_eq!(daemon.status()["queue"]["admitted"], 0);
    native.iter_mut().for_each(|connection| connection.send(body));
    over_http.iter_mut().for_each(|http| http.send(b"x"));
    let mut ends: Vec<u16> = native
        .iter_mut()
        .map(|connection| match connection.frame().unwrap().failure() {
            None => 200,
            Some((code, ..)) if code == FailureCode::OVERLOADED => 429,
            Some((code, message, _)) => panic!("{code:?}: {message}"),
        })
        .collect();
    ends.extend(over_http.iter_mut().map(|http| http.answer().unwrap().status));
    let n_of = |status: u16| ends.iter().filter(|end| **end == status).count();
    assert_eq!(n_of(200) + n_of(429), 2 * REQUESTS, "{ends:?}");
    // Of 7.5 s that may be foreseen, and one that runs.
    assert!((3..=6).contains(&n_of(200)), "{ends:?}");
    assert_eq!(daemon.status()["operations"]["spin"]["dropped"], 0, "nothing was accepted in vain");
}

#[test]
fn an_operation_has_no_more_workers_than_its_max_concurrency() {
    let daemon = Daemon::start(&[("cpu.threads", "2"), ("operations.spin.max_concurrency", "1")]);
    let mut connection = Raw::open(daemon.host_port());
    for id in [1, 2] {
        connection.send(&raw::work(id, "spin", &[("for", "25s")], b""));
    }
    daemon.wait_until_running("spin", 1);
    connection.send(&raw::work(3, "hash", &[("algorithm", "crc32c")], b"123456789"));
    assert_eq!(connection.frame().unwrap().body, b"e3069283", "others pass");
    let status = daemon.status();
    assert_eq!((running(&status, "spin"), &status["queue"]["waiting"]), (1, &1.into()), "{status}");
    connection.send(&raw::cancel(1));
    assert_eq!(failure(&mut connection, 1).0, FailureCode::CANCELLED);
    eventually("the other one runs", || {
        let status = daemon.status();
        (running(&status, "spin") == 1 && status["queue"]["waiting"] == 0).then_some(())
    });
    connection.send(&raw::cancel(2));
    assert_eq!(failure(&mut connection, 2).0, FailureCode::CANCELLED);
}

/// A worker is idle, but may not run them: it comes for what they hold all the same, and nobody else asks for anything.
#[test]
fn what_nobody_waits_for_any_more_is_freed_although_it_could_not_run() {
    let daemon = Daemon::start(&[
        ("cpu.threads", "2"),
        ("operations.spin.max_concurrency", "1"),
        ("queue.max_wait", "10m"),
        ("timeouts.deadline_default", "10m"),
    ]);
    let mut occupant = Raw::open(daemon.host_port());
    occupant.send(&raw::work(1, "spin", &[("for", "60s")], b""));
    daemon.wait_until_running("spin", 1);
    let spin = |connection: &mut Raw| connection.send(&raw::work(1, "spin", &[("for", "30s")], b"held"));
    let (mut cancelling, mut leaving) = (Raw::open(daemon.host_port()), Raw::open(daemon.host_port()));
    spin(&mut cancelling);
    spin(&mut leaving);
    let mut over_http = Http::connect(daemon.http());
    over_http.send(&request("POST /v1/call/spin?for=30s", b"held"));
    daemon.wait_for_status("all wait", |status| status["queue"]["waiting"] == 3);
    let admitted = |n: u64| move |status: &serde_json::Value| status["queue"]["admitted"] == n;
    cancelling.send(&raw::cancel(1));
    daemon.wait_for_status("what was cancelled is freed", admitted(3));
    drop(leaving);
    daemon.wait_for_status("what a connection left is freed", admitted(2));
    drop(over_http);
    daemon.wait_for_status("what an HTTP client left is freed", admitted(1));
    assert_eq!(daemon.status()["queue"]["held_bytes"], 512, "of the one that runs");
}

/// From their own times: a job that begins before the one before it has ended ran beside it.
#[test]
fn jobs_whose_memory_does_not_fit_together_run_one_after_the_other_and_light_ones_pass() {
    const JOBS: u64 = 4;
    // A quarter of it is for work areas that are kept.
    let daemon = Daemon::start(&[
        ("cpu.threads", "2"),
        ("cpu.nice", "0"),
        ("cpu.memory", "128MiB"),
        ("queue.max_wait", "5m"),
        ("timeouts.deadline_default", "5m"),
    ]);
    let mut connection = Raw::open(daemon.host_port());
    let heavy = [("memory", "64MiB"), ("iterations", "2")];
    let mut bytes = Vec::new();
    (1..=JOBS).for_each(|id| bytes.extend(raw::work(id, "password-hash", &heavy, b"secret")));
    bytes.extend(raw::work(JOBS + 1, "hash", &[], b"light"));
    connection.send(&bytes);
    let frames: Vec<Frame> = (0..=JOBS).map(|_| connection.frame().unwrap()).collect();
    let light = frames.iter().position(|frame| frame.id == JOBS + 1).unwrap();
    assert!(light < frames.len() - 2, "the light one waited for {light} heavy ones");
    let mut times: Vec<(Duration, Duration)> = frames
        .iter()
        .filter(|frame| frame.id != JOBS + 1)
        .map(|frame| {
            assert_eq!(frame.kind, Kind::Reply, "{:?}", frame.failure());
            let reply = Reply::decode(&frame.header).unwrap();
            let begun = Duration::from_micros(reply.queue_time);
            (begun, begun + Duration::from_micros(reply.service_time))
        })
        .collect();
    times.sort_unstable();
    // They were queued within this of each other.
    let blur = Duration::from_millis(20);
    for pair in times.windows(2) {
        assert!(pair[1].0 + blur > pair[0].1, "two at the same time: {times:?}");
    }
    let too_much = [("memory", "100MiB"), ("iterations", "1")];
    connection.send(&raw::work(9, "password-hash", &too_much, b"secret"));
    assert_eq!(failure(&mut connection, 9).0, FailureCode::TOO_LARGE, "it would never fit");
}
