//! The clients of the protocol crate against the real daemon.
//!
//! The runtimes have two threads because these tests also wait for the daemon in ways that block one.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tokio::task::JoinSet;
use windlass_protocol::FailureCode;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{
    Address, Backoff, CallError, Options, Request, Retry, SUBJECT_CATALOGUE, blocking,
};
use windlass_tests::{Daemon, Gate, PATIENCE, Program, Ready, eventually, raw, workers};

/// Requests in flight on one connection; as many as a daemon allows.
const MANY: u64 = 1024;

/// Settings under which what waits behind a gate goes on waiting.
const PATIENT: [(&str, &str); 2] = [("cpu.threads", "2"), ("queue.max_wait", "10m")];

/// What never comes is not waited for longer than a test has patience.
fn options() -> Options {
    Options { answer_timeout: PATIENCE, ..Options::named("suites") }
}

fn address(daemon: &Daemon) -> Address {
    daemon.address().parse().unwrap()
}

fn numbered(operation: &str, number: u64) -> Request {
    Request::new(operation).body(number.to_le_bytes().to_vec())
}

fn endless_spin() -> Request {
    Request::new("spin").parameter("for", "60s").deadline(Duration::from_secs(600))
}

/// Waits until the daemon's status shows `expected` at `pointer`.
#[track_caller]
fn await_status(daemon: &Daemon, pointer: &str, expected: u64) -> Value {
    let mut observer = raw::Raw::open(daemon.host_port());
    eventually(&format!("{pointer} is {expected}"), || {
        let status = raw::status(&mut observer);
        let found = status.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        (found == expected).then_some(status)
    })
}

/// W-34: a thousand are in the daemon at the same time, on one connection, and each gets its own answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_requests_are_in_flight_on_one_connection_and_each_gets_its_own_answer() {
    let daemon = Daemon::start(&PATIENT);
    let gate = Gate::hold(&daemon);
    let client = Client::connect(address(&daemon), options()).await.unwrap();
    assert_eq!(u64::from(client.terms().await.unwrap().in_flight_max), MANY);
    let mut calls = JoinSet::new();
    for number in 0..MANY {
        let client = client.clone();
        calls.spawn(async move { (number, client.call(&numbered("echo", number)).await) });
    }
    let status = await_status(&daemon, "/queue/waiting", MANY);
    // The gate's, the client's, and the observer's.
    assert_eq!(status["connections"]["open"], 3);
    gate.release();
    let mut answered = HashSet::new();
    while let Some(ended) = calls.join_next().await {
        let (number, response) = ended.unwrap();
        assert_eq!(response.unwrap().body, number.to_le_bytes().to_vec());
        answered.insert(number);
    }
    assert_eq!(answered.len() as u64, MANY);
    let totals = client.close().await.unwrap();
    assert_eq!((totals.requests, totals.failures, totals.bytes_in), (MANY, 0, 8 * MANY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_come_in_any_order() {
    let daemon = Daemon::start(&PATIENT);
    let client = Client::connect(address(&daemon), options()).await.unwrap();
    // The first request runs, and those sent after it are answered before it.
    let first = tokio::spawn({
        let client = client.clone();
        async move { client.call(&endless_spin()).await }
    });
    await_status(&daemon, "/queue/admitted", 1);
    // This one is answered before those that precede it, which are held longer.
    let mut held = JoinSet::new();
    for (number, delay) in [(1, "5m"), (2, "5m"), (3, "1ms")] {
        let client = client.clone();
        let request = numbered("echo", number).parameter("delay", delay).deadline(Duration::from_secs(600));
        held.spawn(async move { client.call(&request).await });
    }
    let soonest = held.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(soonest.body, 3_u64.to_le_bytes().to_vec());
    for number in 10..100 {
        let response = client.call(&numbered("echo", number)).await.unwrap();
        assert_eq!(response.body, number.to_le_bytes().to_vec());
    }
    assert!(!first.is_finished());
    first.abort();
    await_status(&daemon, "/queue/admitted", 0);
}

/// W-47: what waits is not started when nobody waits for it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_dropped_while_it_waits_is_never_started() {
    let daemon = Daemon::start(&PATIENT);
    let gate = Gate::hold(&daemon);
    let client = Client::connect(address(&daemon), options()).await.unwrap();
    let call = |number| {
        let client = client.clone();
        tokio::spawn(async move { client.call(&numbered("hash", number)).await })
    };
    let (kept, dropped) = (call(1), call(2));
    await_status(&daemon, "/queue/waiting", 2);
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    // What follows on the connection is answered after the Cancel was read.
    client.ping(b"cancelled?").await.unwrap();
    gate.release();
    assert_eq!(kept.await.unwrap().unwrap().body.len(), 64);
    let status = await_status(&daemon, "/operations/hash/dropped", 1);
    assert_eq!(status["operations"]["hash"]["done"], 1);
    assert_eq!(status["operations"]["hash"]["stopped"], 0);
    assert_eq!(status["queue"]["held_bytes"], 0);
    // The connection lives, and its places are free.
    assert_eq!(client.close().await.unwrap().requests, 2);
}

/// W-47: what runs is stopped at its next check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_dropped_while_it_runs_is_stopped() {
    let daemon = Daemon::start(&PATIENT);
    let client = Client::connect(address(&daemon), options()).await.unwrap();
    let dropped = tokio::spawn({
        let client = client.clone();
        async move { client.call(&endless_spin()).await }
    });
    let mut observer = raw::Raw::open(daemon.host_port());
    let mut spins = || {
        let status = raw::status(&mut observer);
        workers(&status).iter().filter(|worker| worker["running"]["operation"] == "spin").count()
    };
    eventually("it runs", || (spins() == 1).then_some(()));
    dropped.abort();
    eventually("it is stopped", || (spins() == 0).then_some(()));
    let status = await_status(&daemon, "/operations/spin/stopped", 1);
    assert_eq!(status["operations"]["spin"]["done"], 0);
    assert_eq!(client.call(&numbered("echo", 1)).await.unwrap().body.len(), 8);
}

#[test]
fn the_blocking_client_calls_pings_asks_and_closes() {
    let daemon = Daemon::start(&[]);
    let mut client = blocking::Client::connect(address(&daemon), options()).unwrap();
    assert!(client.terms().unwrap().server.starts_with("windlassd/"));
    let hash = Request::new("hash").parameter("algorithm", "sha256").body("abc");
    let digest = client.call(&hash).unwrap().body;
    assert_eq!(digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    let large = vec![7; 5 << 20];
    assert_eq!(client.call(&Request::new("echo").body(large.clone())).unwrap().body, large);
    assert_eq!(client.ping(b"there?").unwrap().body, "there?");
    let catalogue: Value = serde_json::from_slice(&client.query(SUBJECT_CATALOGUE).unwrap()).unwrap();
    assert!(catalogue["operations"].as_array().unwrap().iter().any(|entry| entry["name"] == "hash"));
    let CallError::Failure(failure) = client.call(&Request::new("hsah")).unwrap_err() else {
        panic!("an unknown operation is a Failure")
    };
    assert_eq!((failure.code, failure.retry_safe), (FailureCode::UNKNOWN_OPERATION, true));
    let totals = client.close().unwrap();
    assert_eq!((totals.requests, totals.failures), (3, 1));
    assert_eq!(totals.bytes_in, 3 + (5 << 20));
}

#[test]
fn the_blocking_client_gives_up_after_its_deadline_and_the_daemon_stops() {
    let daemon = Daemon::start_faulty(&PATIENT);
    let mut client = blocking::Client::connect(address(&daemon), options()).unwrap();
    let request = Request::new("spin").parameter("for", "30ms").deadline(Duration::from_millis(1));
    // The daemon knows that this cannot be done in time.
    let CallError::Failure(failure) = client.call(&request).unwrap_err() else { panic!("a Failure") };
    assert_eq!(failure.code, FailureCode::DEADLINE_EXCEEDED);
    let gate = Gate::hold_unforeseen(&daemon);
    let error = client.call(&numbered("hash", 1).deadline(Duration::from_millis(30))).unwrap_err();
    gate.release();
    // Said by the daemon while its workers were as busy as before, or by the client where that took too long.
    let said = match &error {
        CallError::Failure(failure) => failure.code == FailureCode::DEADLINE_EXCEEDED,
        error => matches!(error, CallError::DeadlineExceeded { .. }),
    };
    assert!(said, "{error}");
    let status = await_status(&daemon, "/operations/hash/dropped", 1);
    assert_eq!(status["operations"]["hash"]["done"], 0);
    assert_eq!(client.call(&numbered("hash", 1)).unwrap().body.len(), 64);
}

/// A daemon on a Unix socket, whose address nobody else can be given while it is down.
fn daemon_at(socket: &Path) -> Daemon {
    let path = socket.to_str().unwrap();
    let settings = [PATIENT[0], PATIENT[1], ("listen.unix", path)];
    Daemon::launch(Program::Windlassd, &settings, Ready::Awaited, |_| {})
}

/// Many attempts, because a daemon takes its time to start beside other tests.
fn persistent() -> Options {
    let backoff = Backoff { first: Duration::from_millis(5), longest: Duration::from_millis(50) };
    Options { attempts_max: 10_000, backoff, ..options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_clients_find_the_daemon_again_after_its_restart() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("windlass.sock");
    let address: Address = format!("unix://{}", socket.display()).parse().unwrap();
    let daemon = daemon_at(&socket);
    let client = Client::connect(address.clone(), persistent()).await.unwrap();
    let mut patient = blocking::Client::connect(address.clone(), persistent()).unwrap();
    assert_eq!(client.call(&numbered("echo", 1)).await.unwrap().body, 1_u64.to_le_bytes().to_vec());
    assert_eq!(patient.call(&numbered("echo", 1)).unwrap().body, 1_u64.to_le_bytes().to_vec());
    assert_eq!(daemon.drain().status, Some(0));

    // While it is down a call that may not be repeated says so, and was not sent.
    let error = client.call(&numbered("echo", 2).retry(Retry::Never)).await.unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }) && error.is_retry_safe(), "{error}");
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.call(&numbered("echo", 3)).await }
    });
    let blocked = std::thread::spawn(move || patient.call(&numbered("echo", 4)));
    let daemon = daemon_at(&socket);
    assert_eq!(waiting.await.unwrap().unwrap().body, 3_u64.to_le_bytes().to_vec());
    assert_eq!(blocked.join().unwrap().unwrap().body, 4_u64.to_le_bytes().to_vec());
    assert_eq!(daemon.drain().status, Some(0));
}

/// W-64: nobody knows what became of a request whose daemon was killed, so only a pure one is sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_daemon_had_is_sent_again_only_where_that_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("windlass.sock");
    let address: Address = format!("unix://{}", socket.display()).parse().unwrap();
    let daemon = daemon_at(&socket);
    let gate = Gate::hold(&daemon);
    let client = Client::connect(address, persistent()).await.unwrap();
    let call = |retry| {
        let client = client.clone();
        tokio::spawn(async move { client.call(&numbered("echo", 7).retry(retry)).await })
    };
    let (safe, pure) = (call(Retry::Safe), call(Retry::Pure));
    await_status(&daemon, "/queue/waiting", 2);
    daemon.signal(Signal::KILL);
    let error = safe.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }) && !error.is_retry_safe(), "{error}");
    drop((gate, daemon));
    let _successor = daemon_at(&socket);
    assert_eq!(pure.await.unwrap().unwrap().body, 7_u64.to_le_bytes().to_vec());
}

/// W-61, W-62: what was accepted before the drain is finished; what comes after it is refused, retry safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_finishes_what_was_accepted_and_refuses_the_rest_as_draining() {
    let daemon = Daemon::start(&PATIENT);
    let mut gate = Gate::hold(&daemon);
    let client = Client::connect(address(&daemon), options()).await.unwrap();
    let accepted: Vec<_> = (0..100)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { client.call(&numbered("echo", number)).await })
        })
        .collect();
    await_status(&daemon, "/queue/waiting", 100);
    daemon.signal(Signal::TERM);
    let going = gate.connection().frame().unwrap();
    assert_eq!(going.go_away(), Some((u64::MAX, FailureCode::DRAINING.number())));
    // Ping and Query are still answered, a Work is not accepted any more.
    gate.connection().send(&raw::ping(1, b"still there?"));
    assert_eq!(gate.connection().frame().unwrap().body, b"still there?");
    let status = raw::status(gate.connection());
    assert_eq!((&status["state"], &status["queue"]["waiting"]), (&"draining".into(), &100.into()));
    let late = gate.jobs() + 1;
    gate.connection().send(&raw::work(late, "echo", &[], b"late"));
    let (code, _, retry_safe) = gate.connection().frame().unwrap().failure().unwrap();
    assert_eq!((code, retry_safe), (FailureCode::DRAINING, true));
    // The client's own GoAway may still be on its way, so the late call is answered by the daemon or concluded here.
    let error = client.call(&numbered("echo", 100).retry(Retry::Never)).await.unwrap_err();
    let is_draining = matches!(&error, CallError::Failure(failure) if failure.code == FailureCode::DRAINING);
    assert!(is_draining || matches!(error, CallError::Unreachable { .. }), "{error}");
    assert!(error.is_retry_safe(), "{error}");

    for id in 1..=gate.jobs() {
        gate.connection().send(&raw::cancel(id));
    }
    let last_words = gate.connection().rest().last().unwrap().go_away();
    assert_eq!(last_words, Some((late, FailureCode::DRAINING.number())));
    for (number, call) in (0_u64..).zip(accepted) {
        assert_eq!(call.await.unwrap().unwrap().body, number.to_le_bytes().to_vec());
    }
    assert_eq!(daemon.wait().status, Some(0));
}

/// W-61: the rest of it.
#[test]
fn a_drain_tells_a_connection_that_has_not_said_hello() {
    let daemon = Daemon::start(&[]);
    let mut silent = raw::Raw::connect(daemon.host_port());
    await_status(&daemon, "/connections/accepted", 2);
    daemon.signal(Signal::TERM);
    let frames = silent.rest();
    let (code, _, retry_safe) = frames[0].failure().unwrap();
    assert_eq!((frames[0].id, code, retry_safe), (0, FailureCode::DRAINING, true));
    assert_eq!(frames[1].go_away(), Some((0, FailureCode::DRAINING.number())));
    assert_eq!(frames.len(), 2);
    drop(silent);
    assert_eq!(daemon.wait().status, Some(0));
}

/// W-63: whatever the moment of the drain, each call has its own result or was certainly not started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_when_a_drain_begins_have_their_result_or_were_not_started() {
    let daemon = Daemon::start(&[]);
    let client = Client::connect(address(&daemon), options()).await.unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..64_u64 {
        let client = client.clone();
        callers.spawn(async move {
            for turn in 0.. {
                let number = caller << 32 | turn;
                match client.call(&numbered("echo", number).retry(Retry::Never)).await {
                    Ok(response) if response.body == number.to_le_bytes().to_vec() => {}
                    Err(error) if error.is_retry_safe() => return,
                    wrong => panic!("call {number}: {wrong:?}"),
                }
            }
        });
    }
    eventually("there is traffic", || {
        let done = daemon.status()["operations"]["echo"]["done"].as_u64().unwrap_or(0);
        (done > 1000).then_some(())
    });
    let ended = daemon.drain();
    assert_eq!(ended.status, Some(0), "{:?}", ended.log);
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
}
