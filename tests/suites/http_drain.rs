//! SIGTERM and HTTP: what arrived is answered, and nobody is kept waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use windlass_tests::admin::metrics;
use windlass_tests::h2::{H2, reset};
use windlass_tests::http::{Http, ask, request};
use windlass_tests::{Daemon, Gate, eventually, tool};

#[test]
fn drain_answers_requests_in_flight_held_arriving_and_pipelined_then_closes() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let mut idle = Http::connect(daemon.http());
    idle.send(&request("POST /v1/call/echo", b"first"));
    assert_eq!(idle.answer().unwrap().body, b"first");
    let gate = Gate::hold(&daemon);
    let mut waiting = Http::connect(daemon.http());
    let three: Vec<u8> = [b"1", b"2", b"3"].map(|body| request("POST /v1/call/echo", body)).concat();
    waiting.send(&three);
    let mut held = Http::connect(daemon.http());
    held.send(&request("POST /v1/call/echo?delay=300ms", b"held"));
    let mut arriving = Http::connect(daemon.http());
    let whole = request("POST /v1/call/echo", &[9; 100_000]);
    arriving.send(&whole[..60_000]);
    daemon.wait_for_status("all three are in the house", |status| {
        status["queue"]["waiting"].as_u64() >= Some(1)
            && status["queue"]["held_bytes"].as_u64() >= Some(100_005)
    });
    let mut silent = Http::connect(daemon.http());
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("draining");
    assert!(idle.ends() && silent.ends(), "idle connections close at once");
    arriving.send(&whole[60_000..]);
    gate.release();
    for expected in ["1", "2", "3"] {
        let answer = waiting.answer().unwrap();
        assert_eq!(answer.text(), expected);
        assert_eq!(answer.closes(), expected == "3", "the last one says so");
    }
    assert!(waiting.ends());
    for (mut http, expected) in [(held, b"held".to_vec()), (arriving, vec![9; 100_000])] {
        let answer = http.answer().unwrap();
        assert_eq!(answer.body, expected);
        assert!(answer.closes() && http.ends());
    }
    assert_eq!(daemon.wait().status, Some(0));
}

#[test]
fn a_request_after_the_goodbye_is_refused_with_503() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/echo", b"early"));
    daemon.wait_for_status("it waits", |status| status["queue"]["waiting"] == 1);
    let mut witness = Http::connect(daemon.http());
    witness.send(&request("POST /v1/call/echo", b"w"));
    daemon.wait_for_status("both wait", |status| status["queue"]["waiting"] == 2);
    let mut idle = Http::connect(daemon.http());
    idle.send(&request("GET /v1/operations", b""));
    assert_eq!(idle.answer().unwrap().status, 200);
    daemon.signal(Signal::TERM);
    assert!(idle.ends(), "the drain has reached the connections");
    // It may have been read before the goodbye of its own connection, and then it is served.
    http.send(&request("POST /v1/call/echo", b"late"));
    gate.release();
    assert_eq!(http.answer().unwrap().body, b"early");
    if let Some(answer) = http.answer() {
        assert!(answer.status == 200 || answer.problem()["code"] == 21, "{answer:?}");
        assert!(answer.closes() && http.ends());
    }
    assert_eq!(witness.answer().unwrap().body, b"w");
    assert_eq!(daemon.wait().status, Some(0));
}

/// The flaw of others that this door must not have: a request that lies unread in the socket's buffer when the drain
/// begins is lost. A client counts what it sent before it was told anything, and what was answered.
#[test]
fn drain_under_load_loses_no_request_of_a_client_that_was_not_told() {
    const CLIENTS: u32 = 48;
    let daemon = Daemon::start(&[("log.level", "warn,windlass_actors=info,windlass_daemon=info")]);
    let connections: Vec<Http> = (0..CLIENTS).map(|_| Http::connect(daemon.http())).collect();
    let signalled = AtomicBool::new(false);
    let answered = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .zip(connections)
            .map(|(client, mut http)| {
                let (signalled, answered) = (&signalled, &answered);
                scope.spawn(move || {
                    let mut sent_before = 0;
                    for n in 0_u32.. {
                        let told = signalled.load(Ordering::SeqCst);
                        // What is begun after the signal may meet a closed connection, as on any keep-alive one.
                        if told {
                            return sent_before;
                        }
                        let body = [client, n].map(u32::to_le_bytes).concat();
                        if !http.try_send(&request("POST /v1/call/echo", &body)) {
                            assert!(signalled.load(Ordering::SeqCst), "cut off before the drain");
                            return sent_before;
                        }
                        let sent_in_time = !signalled.load(Ordering::SeqCst);
                        match http.answer() {
                            Some(answer) => {
                                assert_eq!((answer.status, answer.body), (200, body));
                                answered.fetch_add(1, Ordering::SeqCst);
                                sent_before += 1;
                            }
                            None => {
                                assert!(!sent_in_time, "client {client}: request {n} has no answer");
                                return sent_before;
                            }
                        }
                    }
                    sent_before
                })
            })
            .collect();
        while answered.load(Ordering::SeqCst) < 2000 {
            std::thread::yield_now();
        }
        signalled.store(true, Ordering::SeqCst);
        daemon.signal(Signal::TERM);
        let sent: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(sent, answered.load(Ordering::SeqCst));
    });
    assert_eq!(daemon.wait().status, Some(0));
}

/// The daemon finds the requests and the signal at the same time, and half of the connections have never been heard.
#[test]
fn requests_that_lie_unread_when_the_drain_begins_are_all_answered() {
    const CONNECTIONS: u8 = 200;
    for _ in 0..5 {
        let daemon = Daemon::start(&[]);
        let mut connections: Vec<Http> = (0..CONNECTIONS).map(|_| Http::connect(daemon.http())).collect();
        for http in connections.iter_mut().step_by(2) {
            http.send(&request("POST /v1/call/echo", b"known"));
            assert_eq!(http.answer().unwrap().body, b"known");
        }
        daemon.wait_for_status("all are accepted", |status| {
            status["connections"]["open"] == u64::from(CONNECTIONS) + 1
        });
        daemon.signal(Signal::STOP);
        for (index, http) in (0_u8..).zip(&mut connections) {
            http.send(
                &[request("POST /v1/call/echo", &[index]), request("GET /v1/operations", b"")].concat(),
            );
        }
        daemon.signal(Signal::TERM);
        daemon.signal(Signal::CONT);
        for (index, mut http) in (0_u8..).zip(connections) {
            assert_eq!(http.answer().expect("an answer").body, [index]);
            let last = http.answer().expect("an answer to the second");
            assert!(last.status == 200 && http.ends());
        }
        assert_eq!(daemon.wait().status, Some(0));
    }
}

#[test]
fn http2_requests_in_flight_are_finished_in_a_drain() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let Some(mut curl) = tool("curl") else { return };
    let gate = Gate::hold(&daemon);
    curl.args(["--silent", "--http2-prior-knowledge", "--data", "abc"]);
    curl.arg(format!("http://{}/v1/call/hash?algorithm=crc32c", daemon.http()));
    let client = std::thread::spawn(move || windlass_tests::run(&mut curl, b"").ok());
    daemon.wait_for_status("it waits", |status| status["queue"]["waiting"] == 1);
    daemon.signal(Signal::TERM);
    daemon.wait_for_log("draining");
    gate.release();
    assert_eq!(client.join().unwrap().text(), "364b3fb7");
    assert_eq!(daemon.wait().status, Some(0));
}

#[test]
fn when_the_drain_is_over_what_is_left_is_told_so() {
    let daemon =
        Daemon::start(&[("cpu.threads", "1"), ("drain.timeout", "300ms"), ("drain.cancel_grace", "5s")]);
    let mut running = Http::connect(daemon.http());
    running.send(&request("POST /v1/call/spin?for=60s\nWindlass-Deadline: 5m", b""));
    daemon.wait_until_running("spin", 1);
    let mut held = Http::connect(daemon.http());
    held.send(&request("POST /v1/call/echo?delay=60s\nWindlass-Deadline: 5m", b"held"));
    let mut arriving = Http::connect(daemon.http());
    arriving.send(&request("POST /v1/call/echo", &[1; 100_000])[..50_000]);
    daemon.wait_for_status("all three are here", |status| status["in_flight"] == 3);
    let begun_at = Instant::now();
    daemon.signal(Signal::TERM);
    for (which, (mut http, retry_safe)) in
        [(running, false), (held, true), (arriving, true)].into_iter().enumerate()
    {
        let answer =
            http.answer().unwrap_or_else(|| panic!("no answer to {which}, where retry_safe is {retry_safe}"));
        let problem = answer.problem();
        assert_eq!((answer.status, problem["code"].as_u64()), (503, Some(31)), "{problem}");
        assert_eq!(problem["retry_safe"], retry_safe, "{problem}");
        assert!(answer.closes() && http.ends());
    }
    assert!(begun_at.elapsed() < Duration::from_secs(20));
    assert_eq!(daemon.wait().status, Some(75));
}

#[test]
fn counters_are_what_http_clients_were_told_cancellations_and_drain_included() {
    let daemon = Daemon::start(&[
        ("cpu.threads", "1"),
        ("queue.capacity", "3"),
        ("queue.max_wait", "5m"),
        ("timeouts.deadline_default", "10m"),
    ]);
    let mut told: BTreeMap<String, f64> = BTreeMap::new();
    let mut tell = |operation: &str, outcome: &str| {
        *told.entry(format!("operation={operation},outcome={outcome}")).or_default() += 1.0;
    };
    let mut http = Http::connect(daemon.http());
    for (head, status, operation, outcome) in [
        ("POST /v1/call/hash", 200, "hash", "done"),
        ("POST /v1/call/hash?algorithm=md5", 400, "hash", "invalid_parameter"),
        ("POST /v1/call/decompress?algorithm=gzip", 422, "decompress", "invalid_input"),
        ("POST /v1/call/spin?for=10s\nWindlass-Deadline: 5s", 504, "spin", "deadline_exceeded"),
        ("POST /v1/call/nope", 404, "unknown", "unknown_operation"),
        ("GET /v1/call/hash", 405, "unknown", "protocol_error"),
        ("POST /v1/call/hash\norigin: null", 403, "unknown", "protocol_error"),
    ] {
        let body: &[u8] = if head.starts_with("POST") { b"abc" } else { b"" };
        http.send(&request(head, body));
        assert_eq!(http.answer().unwrap().status, status, "{head}");
        tell(operation, outcome);
    }
    // One runs and three wait; a fourth has no place.
    let mut running = Http::connect(daemon.http());
    running.send(&request("POST /v1/call/spin?for=60s", b""));
    daemon.wait_until_running("spin", 1);
    let mut waiting = Http::connect(daemon.http());
    waiting.send(&request("POST /v1/call/hash", b"patient"));
    let mut leaving = Http::connect(daemon.http());
    leaving
        .send(&[request("POST /v1/call/hash", b"gone"), request("POST /v1/call/hash", b"unread")].concat());
    let mut h2 = H2::connect(daemon.http());
    h2.send(&h2.post(1, "/v1/call/echo", b"reset"));
    daemon.wait_for_status("three wait", |status| status["queue"]["waiting"] == 3);
    http.send(&request("POST /v1/call/hash", b"abc"));
    assert_eq!(http.answer().unwrap().status, 429);
    tell("hash", "overloaded");
    // Two leave, each in the way of its protocol; what hyper had not looked at yet was never a request.
    drop(leaving);
    tell("hash", "unanswered");
    h2.send(&reset(1));
    tell("echo", "unanswered");
    daemon.wait_for_status("they have left", |status| status["in_flight"] == 2);
    // One more is held until all has been counted.
    let mut held = Http::connect(daemon.http());
    held.send(&request("POST /v1/call/echo?delay=5m", b""));
    daemon.wait_for_status("it is in flight", |status| status["in_flight"] == 3);

    let at = daemon.admin_address().to_owned();
    daemon.signal(Signal::TERM);
    assert!(http.ends(), "the drain has reached the connections");
    drop(running);
    tell("spin", "unanswered");
    assert_eq!(waiting.answer().unwrap().status, 200);
    tell("hash", "done");
    let seen = eventually("only what is held is left", || {
        Some(metrics(&at)).filter(|seen| seen.value("windlass_requests_in_flight") == 1.0)
    });
    assert_eq!(seen.nonzero("windlass_requests_total"), told);
    assert_eq!(seen.value("windlass_received_bytes_total"), 3.0 * 2.0 + 7.0 + 4.0 + 5.0);
    assert_eq!(seen.value("windlass_sent_bytes_total"), 64.0 * 2.0);
    drop(held);
    assert_eq!(daemon.wait().status, Some(0));
}

#[test]
fn nothing_is_left_of_a_door_that_was_idle() {
    let daemon = Daemon::start(&[]);
    let address = daemon.http().to_owned();
    assert_eq!(ask(&address, "POST /v1/call/echo", b"x").status, 200);
    assert_eq!(daemon.drain().status, Some(0));
    assert!(std::net::TcpStream::connect(address).is_err());
}
