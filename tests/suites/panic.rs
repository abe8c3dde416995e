//! A panic in an operation is an answer, a counter and a line in the log, and costs nobody else anything.

use serde_json::{Value, json};
use windlass_protocol::{FailureCode, Kind, SUBJECT_CATALOGUE};
use windlass_tests::{Daemon, Gate, Program, raw, workers};

/// Names that no released binary contains.
const FAULTS: [&str; 3] = ["fault-panic", "fault-stuck", "fault-slow"];

/// The ids of the daemon's CPU threads.
fn cpu_threads(daemon: &Daemon) -> Vec<String> {
    let mut ids: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", daemon.pid()))
        .unwrap()
        .map(|task| task.unwrap())
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).unwrap().starts_with("windlass-cpu-")
        })
        .map(|task| task.file_name().into_string().unwrap())
        .collect();
    ids.sort();
    ids
}

#[track_caller]
fn assert_internal(answer: &raw::Frame) {
    let (code, message, retry_safe) = answer.failure().expect("a Failure");
    assert_eq!(code, FailureCode::INTERNAL, "{message}");
    assert!(message.contains("fault-panic"), "{message}");
    assert!(!retry_safe, "it was started");
}

#[test]
fn a_panic_is_answered_internal_and_counted_and_logged_by_operation() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "1")]);
    let mut connection = raw::Raw::open(daemon.host_port());
    connection.send(&raw::work(1, "fault-panic", &[], b""));
    assert_internal(&connection.frame().unwrap());
    // There is one worker, so it is the same that takes the next job.
    connection.send(&raw::work(2, "echo", &[], b"still here"));
    let reply = connection.frame().unwrap();
    assert_eq!((reply.kind, reply.body.as_slice()), (Kind::Reply, &b"still here"[..]));
    let status = raw::status(&mut connection);
    assert_eq!(workers(&status)[0]["jobs"], json!({"fault-panic": 1, "echo": 1}));
    assert_eq!(status["operations"]["fault-panic"]["panicked"], 1);
    assert_eq!(status["panics"], 1);
    let event = daemon.wait_for_log("an operation panicked");
    assert_eq!(event["operation"], "fault-panic", "{event}");
    assert_eq!(event["panic"], "fault-panic was called", "{event}");
    drop(connection);
    assert_eq!(daemon.drain().status, Some(0));
}

#[test]
fn after_1000_panics_every_worker_is_still_there() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "3")]);
    // All threads are there once all are busy.
    Gate::hold(&daemon).release();
    let before = cpu_threads(&daemon);
    assert_eq!(before.len(), 3);
    // An input that does harm twice is not tried again.
    let mut n_inputs = 0_u64;
    let mut unlike = || {
        n_inputs += 1;
        n_inputs.to_le_bytes()
    };
    let mut connections: Vec<raw::Raw> = (0..4).map(|_| raw::Raw::open(daemon.host_port())).collect();
    for connection in &mut connections {
        for id in 1..=250 {
            connection.send(&raw::work(id, "fault-panic", &[], &unlike()));
        }
    }
    for connection in &mut connections {
        for _ in 1..=250 {
            assert_internal(&connection.frame().unwrap());
        }
    }
    let status = daemon.status();
    assert_eq!(status["panics"], 1000);
    assert_eq!(status["queue"]["admitted"], 0, "a panic kept its place in the queue");
    assert_eq!(status["cpu_memory"]["bytes"], 0, "a panic kept its working memory");
    assert_eq!(cpu_threads(&daemon), before);
    // No place is lost: all workers can be busy at the same time.
    let gate = Gate::hold(&daemon);
    assert_eq!(gate.jobs(), 3);
    gate.release();
}

#[test]
fn a_panic_amid_pipelined_requests_leaves_the_others_answered() {
    let daemon = Daemon::start_faulty(&[("cpu.threads", "1")]);
    let mut connection = raw::Raw::open(daemon.host_port());
    // What is queued behind a busy worker crosses the bridge as it was read: in one batch.
    let gate = Gate::hold(&daemon);
    let panics = |id: u64| id == 1 || id == 9 || id == 20;
    let requests: Vec<u8> = (1..=20)
        .flat_map(|id| match panics(id) {
            true => raw::work(id, "fault-panic", &[], &id.to_le_bytes()),
            false => raw::work(id, "echo", &[], &id.to_le_bytes()),
        })
        .collect();
    connection.send(&requests);
    gate.release();
    for id in 1..=20 {
        let answer = connection.frame().unwrap();
        assert_eq!(answer.id, id);
        match panics(id) {
            true => assert_internal(&answer),
            false => assert_eq!((answer.kind, answer.body), (Kind::Reply, id.to_le_bytes().to_vec())),
        }
    }
}

#[test]
fn a_released_binary_has_no_faults() {
    let daemon = Daemon::start(&[]);
    let mut connection = raw::Raw::open(daemon.host_port());
    for (id, name) in (1..).zip(FAULTS) {
        connection.send(&raw::work(id, name, &[], b""));
        let (code, message, _) = connection.frame().unwrap().failure().unwrap();
        assert_eq!(code, FailureCode::UNKNOWN_OPERATION, "{message}");
    }
    connection.send(&raw::query(9, SUBJECT_CATALOGUE));
    let catalogue: Value = serde_json::from_slice(&connection.frame().unwrap().body).unwrap();
    let names: Vec<&str> =
        catalogue["operations"].as_array().unwrap().iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"hash") && !names.iter().any(|name| name.starts_with("fault")), "{names:?}");

    let contains = |program: Program, name: &str| {
        let bytes = std::fs::read(program.path()).unwrap();
        bytes.windows(name.len()).any(|window| window == name.as_bytes())
    };
    for name in FAULTS {
        assert!(!contains(Program::Windlassd, name), "{name}");
        assert!(contains(Program::WindlassdFaults, name), "{name} is not found even where it is");
    }
}
