//! Two worlds: threads in fixed numbers, and an I/O side that answers while every worker is busy.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use windlass_protocol::{FailureCode, Kind, SUBJECT_CATALOGUE, SUBJECT_STATUS};
use windlass_tests::{Daemon, Gate, eventually, raw, windlass, workers};

/// Connections that ask for a delay at the same time.
const SLEEPERS: u64 = 1000;

/// Settings, or parameters: names and values.
type Pairs<'a> = &'a [(&'a str, &'a str)];

/// Descriptors are 1,024 by default; tests that open thousands of connections want what the machine allows.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// The threads, once each has given itself its name and niceness. One that never does, or has no name of its own,
/// goes by the name of the program, which only the main thread may.
#[track_caller]
fn threads(daemon: &Daemon, nice: i32) -> Vec<(String, i32)> {
    eventually("every thread has its name and niceness", || {
        let threads = daemon.threads();
        let unnamed = threads.iter().filter(|(name, _)| name == "windlassd").count();
        let cpu = |(name, _): &&(String, i32)| name.starts_with("windlass-cpu-");
        let settled = unnamed == 1 && threads.iter().filter(cpu).all(|(_, found)| *found == nice);
        settled.then_some(threads)
    })
}

fn count(number: &Value) -> u64 {
    number.as_u64().unwrap_or(0)
}

#[test]
fn each_world_has_its_named_threads_in_the_configured_number_and_niceness() {
    let cases: [(Pairs<'_>, usize, usize, i32); 2] = [
        (&[("io.threads", "2"), ("cpu.threads", "3")], 2, 3, 19),
        (&[("io.threads", "1"), ("cpu.threads", "2"), ("cpu.nice", "11")], 1, 2, 11),
    ];
    for (settings, io, cpu, nice) in cases {
        let daemon = Daemon::start(settings);
        let threads = threads(&daemon, nice);
        let named = |prefix: &str, number: usize| -> Vec<String> {
            (0..number).map(|index| format!("{prefix}{index}")).collect()
        };
        let found = |prefix: &str| -> Vec<&String> {
            threads.iter().map(|(name, _)| name).filter(|name| name.starts_with(prefix)).collect()
        };
        assert_eq!(found("windlass-io-"), named("windlass-io-", io).iter().collect::<Vec<_>>());
        assert_eq!(found("windlass-cpu-"), named("windlass-cpu-", cpu).iter().collect::<Vec<_>>());
        let own = threads.iter().find(|(name, _)| name == "windlassd").unwrap().1;
        for (name, found) in &threads {
            assert!(name.starts_with("windlass"), "a thread named {name}");
            let expected = if name.starts_with("windlass-cpu-") { nice } else { own };
            assert_eq!(*found, expected, "niceness of {name}");
        }
    }
}

#[test]
fn threads_are_as_many_with_5000_connections_as_with_one() {
    raise_descriptor_limit();
    let daemon = Daemon::start(&[]);
    let mut first = raw::Raw::open(daemon.host_port());
    let before = threads(&daemon, 19);
    let idle: Vec<raw::Raw> = (1..5000).map(|_| raw::Raw::open(daemon.host_port())).collect();
    assert_eq!(count(&raw::status(&mut first)["connections"]["open"]), 5000);
    assert_eq!(daemon.threads(), before);
    drop(idle);
    eventually("the others have left", || {
        (count(&raw::status(&mut first)["connections"]["open"]) == 1).then_some(())
    });
    assert_eq!(daemon.threads(), before);
}

#[test]
fn threads_are_as_many_under_load() {
    // The load has to pass beside that of other tests.
    let daemon =
        Daemon::start(&[("queue.max_wait", "10m"), ("timeouts.deadline_default", "10m"), ("cpu.nice", "1")]);
    let before = threads(&daemon, 1);
    let mut observer = raw::Raw::open(daemon.host_port());
    let text = b"the anchor rises slowly ".repeat(1 << 13);
    let mut requests = Vec::new();
    for id in 1..=120 {
        let (operation, parameters): (_, Pairs<'_>) = match id % 4 {
            0 => ("spin", &[("for", "2ms")]),
            1 => ("hash", &[("algorithm", "sha512")]),
            2 => ("compress", &[("algorithm", "gzip")]),
            _ => ("echo", &[("delay", "10ms")]),
        };
        requests.extend(raw::work(id, operation, parameters, &text));
    }
    let mut busiest = 0;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let mut connection = raw::Raw::open(daemon.host_port());
                let mut sending = connection.stream().try_clone().unwrap();
                let requests = &requests;
                scope.spawn(move || std::io::Write::write_all(&mut sending, requests).unwrap());
                scope.spawn(move || {
                    for _ in 1..=120 {
                        let answer = connection.frame().unwrap();
                        assert_eq!(answer.kind, Kind::Reply, "{:?}", answer.failure());
                    }
                })
            })
            .collect();
        while !clients.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let status = raw::status(&mut observer);
            busiest = busiest.max(count(&status["queue"]["waiting"]));
            assert_eq!(daemon.threads(), before);
        }
    });
    assert!(busiest > 10, "at most {busiest} requests waited: this was no load");
}

#[test]
fn every_job_of_every_operation_is_in_the_status_of_the_worker_that_ran_it() {
    let daemon = Daemon::start(&[("cpu.threads", "3")]);
    // Each worker has run something for certain.
    let gate = Gate::hold(&daemon);
    let mut sent = BTreeMap::from([("spin", gate.jobs())]);
    gate.release();
    let hash = ["$2b$04$abcdefghijklmnopqrstuu", "5s2v8.iXieOjg/.AySBTTZIIVFJeBui"].concat();
    let kinds: [(&str, Pairs<'_>, &[u8], u64); 9] = [
        ("echo", &[], b"x", 40),
        ("echo", &[("delay", "5ms")], b"x", 10),
        ("hash", &[], b"x", 60),
        ("compress", &[], b"x", 20),
        ("decompress", &[], b"not compressed", 20),
        ("decompress", &[("algorithm", "gzip")], b"", 5),
        ("spin", &[("for", "1ms")], b"", 10),
        ("password-hash", &[("algorithm", "bcrypt"), ("cost", "4")], b"x", 5),
        ("password-verify", &[("hash", &hash)], b"x", 5),
    ];
    for _ in 0..4 {
        let mut connection = raw::Raw::open(daemon.host_port());
        let mut id = 0;
        for (operation, parameters, body, times) in kinds {
            for _ in 0..times {
                id += 1;
                connection.send(&raw::work(id, operation, parameters, body));
            }
            *sent.entry(operation).or_default() += times;
        }
        // A worker never sees this one.
        connection.send(&raw::work(id + 1, "hsah", &[], b""));
        connection.send(&raw::close());
        let answers = connection.rest();
        let final_answers =
            answers.iter().filter(|frame| matches!(frame.kind, Kind::Reply | Kind::Failure)).count();
        assert_eq!(final_answers as u64, id + 1);
    }
    let status = daemon.status();
    let mut ran: BTreeMap<&str, u64> = BTreeMap::new();
    for worker in workers(&status) {
        let jobs = worker["jobs"].as_object().unwrap();
        assert!(jobs.contains_key("spin"), "{} ran nothing", worker["name"]);
        for (operation, number) in jobs {
            *ran.entry(operation).or_default() += count(number);
        }
    }
    assert_eq!(ran, sent);
    let ends = |operation: &str| {
        let ended = &status["operations"][operation];
        ["done", "failed", "panicked", "dropped", "stopped"].map(|end| count(&ended[end]))
    };
    assert_eq!(ends("echo"), [200, 0, 0, 0, 0]);
    assert_eq!(ends("decompress"), [0, 100, 0, 0, 0]);
    assert_eq!(ends("spin"), [40, 0, 0, 0, 3]);
}

/// W-49, W-50, W-54.
#[test]
fn ping_and_query_are_answered_while_every_worker_is_busy() {
    let daemon = Daemon::start(&[("cpu.threads", "2")]);
    let mut gate = Gate::hold(&daemon);
    let mut other = raw::Raw::open(daemon.host_port());
    let before = raw::status(&mut other);
    // Something waits as well.
    other.send(&raw::work(1, "hash", &[], b""));
    for connection in [&mut other, gate.connection()] {
        for id in 0..100 {
            connection.send(&raw::ping(id, b"heave"));
            let pong = connection.frame().unwrap();
            assert_eq!((pong.kind, pong.id, pong.body.as_slice()), (Kind::Pong, id, &b"heave"[..]));
        }
        for subject in [SUBJECT_CATALOGUE, SUBJECT_STATUS] {
            connection.send(&raw::query(1 << 40, subject));
            let info = connection.frame().unwrap();
            assert_eq!((info.kind, info.id), (Kind::Info, 1 << 40));
            assert!(serde_json::from_slice::<Value>(&info.body).unwrap().is_object());
        }
    }
    windlass(daemon.address(), &["ping"], b"").ok();
    let after = raw::status(&mut other);
    assert_eq!(after["queue"]["waiting"], 1);
    assert_eq!(after["operations"], before["operations"], "a job has ended meanwhile");
    for (before, after) in workers(&before).iter().zip(workers(&after)) {
        assert_eq!(after["running"]["operation"], "spin");
        assert_eq!(after["running"]["client"], before["running"]["client"]);
        assert!(count(&after["running"]["for_ms"]) >= count(&before["running"]["for_ms"]));
    }
    gate.release();
    assert_eq!(other.frame().unwrap().kind, Kind::Reply);
}

#[test]
fn requests_that_are_held_take_no_worker_and_no_place_in_the_queue() {
    raise_descriptor_limit();
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let mut sleepers: Vec<raw::Raw> = (0..SLEEPERS).map(|_| raw::Raw::open(daemon.host_port())).collect();
    for sleeper in &mut sleepers {
        sleeper.send(&raw::work_within(1, "echo", &[("delay", "5m")], Some(600_000), b"12345678"));
    }
    let mut other = raw::Raw::open(daemon.host_port());
    let status = eventually("all are held", || {
        let status = raw::status(&mut other);
        (count(&status["in_flight"]) == SLEEPERS).then_some(status)
    });
    assert_eq!(
        (&status["queue"]["admitted"], &status["queue"]["waiting"]),
        (&Value::from(0), &Value::from(0))
    );
    assert!(workers(&status)[0]["running"].is_null());
    other.send(&raw::work(1, "hash", &[], b""));
    assert_eq!(other.frame().unwrap().kind, Kind::Reply);
    for sleeper in &mut sleepers {
        sleeper.send(&raw::cancel(1));
        let (code, _, retry_safe) = sleeper.frame().unwrap().failure().unwrap();
        assert_eq!((code, retry_safe), (FailureCode::CANCELLED, true));
    }
    let status = raw::status(&mut other);
    assert_eq!(status["queue"]["held_bytes"], 0);
    assert_eq!(workers(&status)[0]["jobs"], serde_json::json!({"hash": 1}));
}

/// The time that is promised, 250 ms, is asked of a release build. A debug build runs beside other tests, and what is
/// asked of it is that the delays overlap: one after the other they would take 100 s.
#[test]
fn delays_of_100_ms_on_1000_connections_pass_together() {
    raise_descriptor_limit();
    let daemon = Daemon::start(&[]);
    let mut sleepers: Vec<raw::Raw> = (0..SLEEPERS).map(|_| raw::Raw::open(daemon.host_port())).collect();
    let requests: Vec<Vec<u8>> = (0..SLEEPERS)
        .map(|sleeper| raw::work(1, "echo", &[("delay", "100ms")], &sleeper.to_le_bytes()))
        .collect();
    let begun_at = Instant::now();
    for (sleeper, request) in sleepers.iter_mut().zip(&requests) {
        sleeper.send(request);
    }
    for (sleeper, number) in sleepers.iter_mut().zip(0_u64..) {
        let answer = sleeper.frame().unwrap();
        assert_eq!((answer.kind, answer.id), (Kind::Reply, 1));
        assert_eq!(answer.body, number.to_le_bytes());
    }
    let took = begun_at.elapsed();
    println!("{SLEEPERS} delays of 100 ms took {} ms", took.as_millis());
    assert!(took >= Duration::from_millis(100), "{took:?}");
    assert!(took < TOGETHER_MAX, "{took:?}");
}

const TOGETHER_MAX: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 250 });
