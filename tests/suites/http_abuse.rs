//! HTTP from people who mean harm: a proper refusal, and nothing else harmed.

use std::time::{Duration, Instant};

use windlass_tests::http::{Http, ask, request};
use windlass_tests::{Daemon, Gate};

/// Sends these bytes and reads the answer to them.
#[track_caller]
fn answer_to(daemon: &Daemon, bytes: &[u8]) -> windlass_tests::http::Answer {
    let mut http = Http::connect(daemon.http());
    http.try_send(bytes);
    http.answer().expect("an answer")
}

#[track_caller]
fn assert_unharmed(daemon: &Daemon) {
    let answer = ask(daemon.http(), "POST /v1/call/echo", b"still here");
    assert_eq!((answer.status, answer.text()), (200, "still here"));
    let status = daemon.wait_for_status("nothing is held", |status| status["queue"]["held_bytes"] == 0);
    assert_eq!(status["panics"], 0, "{status}");
}

#[test]
fn malformed_requests_get_a_problem_and_the_end_of_the_connection() {
    let daemon = Daemon::start(&[]);
    let cases: [(&[u8], u16); 15] = [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /v1/operations HTTP/3.0\r\n\r\n", 400),
        (b"GET /v1/operations HTTP/1.1\r\nhost localhost\r\n\r\n", 400),
        (b"GET /v1/operations HTTP/1.1\r\nhost: localhost\r\nx: a\0b\r\n\r\n", 400),
        (b"GET /v1/operations HTTP/1.1\r\n\r\n", 400),
        (b"GET /v1/operations HTTP/1.1\r\nhost: a\r\nhost: localhost\r\n\r\n", 400),
        (b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1x\r\n\r\n", 400),
        (b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: -1\r\n\r\n", 400),
        (
            b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            400,
        ),
        (
            b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\
              \r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 5\
              \r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: gzip\r\n\r\n", 400),
        (
            b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (b"GET http://evil.example/v1/operations HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
    ];
    for (bytes, status) in cases {
        let answer = answer_to(&daemon, bytes);
        let problem = answer.problem();
        assert_eq!(answer.status, status, "{}: {problem}", bytes.escape_ascii());
    }
    assert_unharmed(&daemon);
}

#[test]
fn floods_of_headers_and_endless_targets_are_refused() {
    let daemon = Daemon::start(&[]);
    let many = format!("GET /v1/operations HTTP/1.1\r\nhost: localhost\r\n{}\r\n", "x: y\r\n".repeat(1000));
    let large =
        format!("GET /v1/operations HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
    let long = |bytes: usize| {
        format!("POST /v1/call/echo?delay={} HTTP/1.1\r\nhost: localhost\r\n\r\n", "9".repeat(bytes))
    };
    let path = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a/".repeat(10_000));
    let cases = [
        (many, 431),
        (large, 431),
        (long(5_000), 400),
        (long(20_000), 414),
        (long(1 << 20), 414),
        (path, 414),
    ];
    for (bytes, status) in cases {
        let answer = answer_to(&daemon, bytes.as_bytes());
        assert_eq!(answer.status, status, "{}: {:?}", &bytes[..60], answer.problem());
    }
    assert_unharmed(&daemon);
}

#[test]
fn unknown_methods_upgrades_and_tunnels_are_declined() {
    let daemon = Daemon::start(&[]);
    for method in ["BREW", "PATCH", "TRACE", "PUT", "DELETE"] {
        let answer = ask(daemon.http(), &format!("{method} /v1/call/echo"), b"");
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")), "{method}");
        answer.problem();
    }
    let connect = b"CONNECT localhost:22 HTTP/1.1\r\nhost: localhost:22\r\n\r\n";
    assert!((400..500).contains(&answer_to(&daemon, connect).status));
    // An upgrade is an offer; it is not taken.
    let websocket = "GET /v1/operations\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    assert_eq!(ask(daemon.http(), websocket, b"").status, 200);
    let h2c =
        "GET /v1/operations\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABk";
    assert_eq!(ask(daemon.http(), h2c, b"").status, 200);
    assert_unharmed(&daemon);
}

#[test]
fn traversals_and_texts_that_are_none_are_refused() {
    let daemon = Daemon::start(&[]);
    let cases = [
        ("POST /v1/call/../../etc/passwd", 404),
        ("POST /v1/call/..%2f..%2fetc%2fpasswd", 404),
        ("POST /v1/call/%2e%2e", 404),
        ("POST /v1/call/echo%00", 404),
        ("POST /v1/call/echo%0d%0ax:%20y", 404),
        ("POST /v1/call/%ff%fe", 400),
        ("POST /v1/call/echo?delay=%ff", 400),
        ("POST /v1/call/echo?%ff=1", 400),
        ("POST /v1/call/echo?delay=%zz", 400),
        ("POST //v1/call/echo", 404),
        ("POST /V1/CALL/echo", 404),
    ];
    for (head, status) in cases {
        let answer = ask(daemon.http(), head, b"x");
        assert_eq!(answer.status, status, "{head}: {:?}", answer.problem());
    }
    let mut http = Http::connect(daemon.http());
    http.send(b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\nwindlass-param-delay: \xff\r\n\r\n");
    assert_eq!(http.answer().unwrap().status, 400);
    let long = format!("POST /v1/call/{}", "x".repeat(10_000));
    assert!(ask(daemon.http(), &long, b"").problem()["detail"].as_str().unwrap().len() <= 1024);
    assert_unharmed(&daemon);
}

#[test]
fn slow_heads_and_slow_bodies_are_waited_for_only_so_long() {
    let daemon = Daemon::start(&[("timeouts.handshake", "300ms"), ("timeouts.read", "300ms")]);
    let mut silent = Http::connect(daemon.http());
    assert!(silent.ends(), "who says nothing is told nothing");
    let mut slow_head = Http::connect(daemon.http());
    slow_head.send(b"POST /v1/call/echo HTTP/1.1\r\nhost: loc");
    let answer = slow_head.answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (408, true));
    answer.problem();
    assert!(slow_head.ends());

    let mut second_head = Http::connect(daemon.http());
    second_head.send(&request("POST /v1/call/echo", b"one"));
    assert_eq!(second_head.answer().unwrap().body, b"one");
    second_head.send(b"POST /v1/ca");
    assert_eq!(second_head.answer().unwrap().status, 408);

    let mut slow_body = Http::connect(daemon.http());
    slow_body.send(&request("POST /v1/call/echo", &[1; 1000])[..200]);
    let answer = slow_body.answer().unwrap();
    assert_eq!((answer.status, answer.closes()), (408, true));
    answer.problem();
    assert!(slow_body.ends());
    assert_unharmed(&daemon);
}

#[test]
fn idle_connections_are_closed_and_busy_ones_are_not() {
    let daemon = Daemon::start(&[("timeouts.idle", "300ms"), ("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut busy = Http::connect(daemon.http());
    busy.send(&request("POST /v1/call/echo", b"patient"));
    daemon.wait_for_status("it waits", |status| status["queue"]["waiting"] == 1);
    let mut idle = Http::connect(daemon.http());
    idle.send(&request("GET /v1/operations", b""));
    assert_eq!(idle.answer().unwrap().status, 200);
    assert!(idle.ends());
    gate.release();
    assert_eq!(busy.answer().unwrap().body, b"patient");
}

#[test]
fn a_client_that_does_not_read_is_left_and_holds_nothing() {
    let daemon = Daemon::start(&[("timeouts.write", "500ms")]);
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/echo", &vec![1; 20_000_000]));
    daemon.wait_for_log("the client does not read its answers");
    assert_unharmed(&daemon);
}

/// It has been idle for too long when it has not taken its last answer yet.
#[test]
fn a_client_that_is_told_goodbye_while_it_does_not_read_keeps_nobody_waiting() {
    let daemon = Daemon::start(&[("io.threads", "1"), ("timeouts.idle", "300ms"), ("timeouts.write", "10s")]);
    let mut deaf = Http::connect(daemon.http());
    deaf.send(&request("POST /v1/call/echo", &vec![1; 20_000_000]));
    daemon.wait_for_status("its answer is made", |status| status["operations"]["echo"]["done"] == 1);
    let made_at = Instant::now();
    // The goodbye comes when it has been idle for so long, and then it is given a moment to leave.
    while made_at.elapsed() < Duration::from_secs(2) {
        let asked_at = Instant::now();
        assert_eq!(ask(daemon.http(), "POST /v1/call/hash", b"abc").status, 200);
        assert!(asked_at.elapsed() < Duration::from_secs(5), "another one was not served meanwhile");
    }
    assert_eq!(deaf.answer().unwrap().body.len(), 20_000_000);
    assert!(deaf.ends());
}
