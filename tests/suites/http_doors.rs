//! One limiter, one set of laws: what holds for the native door holds for HTTP, side by side.

use std::net::Shutdown;

use windlass_protocol::{FailureCode, Kind};
use windlass_tests::http::{Http, ask, request};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Gate, eventually, sample};

#[test]
fn both_doors_share_one_queue() {
    let daemon = Daemon::start(&[("queue.capacity", "2"), ("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/echo", b"by http"));
    let mut native = Raw::open(daemon.host_port());
    native.send(&raw::work(1, "echo", &[], b"native"));
    daemon.wait_for_status("both wait", |status| status["queue"]["waiting"] == 2);
    assert_eq!(ask(daemon.http(), "POST /v1/call/echo", b"x").status, 429);
    native.send(&raw::work(2, "echo", &[], b"x"));
    assert_eq!(native.frame().unwrap().failure().unwrap().0, FailureCode::OVERLOADED);
    gate.release();
    assert_eq!(http.answer().unwrap().body, b"by http");
    let frame = native.frame().unwrap();
    assert_eq!((frame.kind, frame.body.as_slice()), (Kind::Reply, b"native".as_slice()));
}

#[test]
fn both_doors_share_the_memory_of_the_queue() {
    const BODY: usize = 700_000;
    let daemon = Daemon::start(&[("limits.body", "1MiB"), ("queue.memory", "2MiB")]);
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/echo?delay=25s", &[7; BODY]));
    // Both together would not fit the half that arriving bodies may take.
    daemon.wait_for_status("one has arrived", |status| {
        status["queue"]["held_bytes"].as_u64() >= Some(BODY as u64) && status["bytes"]["in"] == BODY
    });
    let mut native = Raw::open(daemon.host_port());
    native.send(&raw::work(1, "echo", &[("delay", "25s")], &[7; BODY]));
    daemon.wait_for_status("both are held", |status| {
        status["queue"]["held_bytes"].as_u64() >= Some(2 * BODY as u64)
    });
    let answer = ask(daemon.http(), "POST /v1/call/echo", &[7; BODY]);
    assert_eq!(answer.status, 429);
    assert!(answer.problem()["detail"].as_str().unwrap().contains("queue.memory"), "{answer:?}");
    native.send(&raw::work(2, "echo", &[], &[7; BODY]));
    assert_eq!(native.frame().unwrap().failure().unwrap().0, FailureCode::OVERLOADED);
    drop(http);
    native.send(&raw::cancel(1));
    daemon.wait_for_status("all of it is given back", |status| status["queue"]["held_bytes"] == 0);
}

#[test]
fn a_chunked_body_holds_what_it_has_and_is_refused_when_it_grows_too_large() {
    let daemon = Daemon::start(&[("limits.body", "256KiB")]);
    let mut http = Http::connect(daemon.http());
    http.send(b"POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"10000\r\n".as_slice(), &[1; 0x10000], b"\r\n"].concat();
    http.send(&chunk);
    daemon.wait_for_status("the first chunk is held", |status| {
        status["queue"]["held_bytes"].as_u64().is_some_and(|held| held >= 0x10000)
    });
    for _ in 0..4 {
        http.send(&chunk);
    }
    http.try_send(b"0\r\n\r\n");
    let answer = http.answer().unwrap();
    assert_eq!((answer.status, answer.problem()["code"].as_u64()), (413, Some(13)));
    daemon.wait_for_status("nothing is held", |status| status["queue"]["held_bytes"] == 0);
}

#[test]
fn a_chunked_body_holds_no_less_than_one_of_known_length() {
    // One thread, so that whoever has counted a body has settled what it holds.
    let daemon = Daemon::start(&[("io.threads", "1")]);
    let mut held = Vec::new();
    for (n, framing) in
        ["content-length: 5\r\n\r\nabcde", "transfer-encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"]
            .into_iter()
            .enumerate()
    {
        let mut http = Http::connect(daemon.http());
        http.send(
            format!("POST /v1/call/echo?delay=25s HTTP/1.1\r\nhost: localhost\r\n{framing}").as_bytes(),
        );
        let arrived =
            daemon.wait_for_status("its body is here", |status| status["bytes"]["in"] == 5 * (n + 1));
        held.push(arrived["queue"]["held_bytes"].as_u64().unwrap());
        drop(http);
        daemon.wait_for_status("nothing is held", |status| status["queue"]["held_bytes"] == 0);
    }
    assert_eq!(held[0], held[1]);
    assert!(held[0] > 10, "the body, the answer, and the request itself: {held:?}");
}

#[test]
fn the_connection_limit_counts_both_doors_and_each_says_so_in_its_own_words() {
    let daemon = Daemon::start(&[("limits.connections", "2")]);
    let mut native = Raw::open(daemon.host_port());
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/echo", b"in"));
    assert_eq!(http.answer().unwrap().body, b"in");
    let mut refused = Http::connect(daemon.http());
    let answer = refused.answer().unwrap();
    assert_eq!((answer.status, answer.problem()["code"].as_u64()), (503, Some(20)));
    assert!(answer.closes() && answer.header("retry-after") == Some("1") && refused.ends());
    let mut refused = Raw::connect(daemon.host_port());
    let frame = refused.frame().unwrap();
    assert_eq!((frame.id, frame.failure().unwrap().0), (0, FailureCode::OVERLOADED));
    drop((http, refused));
    eventually("there is room again", || {
        (raw::status(&mut native)["connections"]["open"] == 1).then_some(())
    });
    assert_eq!(ask(daemon.http(), "POST /v1/call/echo", b"x").status, 200);
}

/// Who asks for a 100 is told the refusal instead, and does not have to send what nobody wants.
#[test]
fn expect_100_continue_is_answered_after_admission() {
    let daemon = Daemon::start(&[("queue.capacity", "1"), ("cpu.threads", "1")]);
    let ask_first =
        "POST /v1/call/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n";
    let mut http = Http::connect(daemon.http());
    http.send(ask_first.as_bytes());
    assert_eq!(http.head().unwrap().0, 100);
    http.send(b"hello");
    assert_eq!(http.answer().unwrap().body, b"hello");

    let gate = Gate::hold(&daemon);
    let mut waiting = Http::connect(daemon.http());
    waiting.send(&request("POST /v1/call/echo", b"x"));
    daemon.wait_for_status("the queue is full", |status| status["queue"]["waiting"] == 1);
    http.send(ask_first.as_bytes());
    assert_eq!(http.head().unwrap().0, 429, "no 100 before it");
    gate.release();
    assert_eq!(waiting.answer().unwrap().body, b"x");

    let mut http = Http::connect(daemon.http());
    let too_large = ask_first.replace("length: 5", "length: 99999999999");
    http.send(too_large.as_bytes());
    assert_eq!(http.head().unwrap().0, 413);
}

#[test]
fn pipelined_requests_are_answered_in_order_on_one_connection() {
    let daemon = Daemon::start(&[]);
    let mut http = Http::connect(daemon.http());
    let many: Vec<u8> = (0..100_u32)
        .flat_map(|index| match index % 3 {
            0 => request("POST /v1/call/echo", &index.to_le_bytes()),
            1 => request("POST /v1/call/nope", &index.to_le_bytes()),
            _ => request("GET /v1/operations", b""),
        })
        .collect();
    http.send(&many);
    for index in 0..100_u32 {
        let answer = http.answer().unwrap();
        match index % 3 {
            0 => assert_eq!(answer.body, index.to_le_bytes()),
            1 => assert_eq!(answer.status, 404),
            _ => assert_eq!(answer.status, 200),
        }
    }
    assert_eq!(daemon.status()["connections"]["accepted"], 2, "one for all, one for this question");
}

#[test]
fn a_client_that_leaves_stops_its_work_wherever_it_is() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let stopped = |what: &str, counter: &str, expected: u64| {
        daemon.wait_for_status(what, |status| status["operations"]["spin"][counter] == expected);
    };
    // Running, and the client closes.
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/spin?for=60s\nWindlass-Deadline: 5m", b""));
    daemon.wait_until_running("spin", 1);
    drop(http);
    stopped("the running work is stopped", "stopped", 1);

    // Running and waiting, and the client ends its side alone.
    let mut http = Http::connect(daemon.http());
    http.send(&request("POST /v1/call/spin?for=60s\nWindlass-Deadline: 5m", b""));
    daemon.wait_until_running("spin", 1);
    let mut waiting = Http::connect(daemon.http());
    waiting.send(&request("POST /v1/call/spin?for=60s\nWindlass-Deadline: 5m", b""));
    daemon.wait_for_status("one waits", |status| status["queue"]["waiting"] == 1);
    waiting.stream().shutdown(Shutdown::Write).unwrap();
    // Otherwise the worker that is freed next might still come to it.
    daemon.wait_for_status("who waited has left", |status| status["in_flight"] == 1);
    http.half_close();
    stopped("the running work is stopped", "stopped", 2);
    stopped("the waiting work is not started", "dropped", 1);

    // Held, and arriving.
    let mut held = Http::connect(daemon.http());
    held.send(&request("POST /v1/call/echo?delay=25s", &[1; 1000]));
    let mut arriving = Http::connect(daemon.http());
    arriving.send(&request("POST /v1/call/echo", &[1; 100_000])[..50_000]);
    daemon.wait_for_status("both hold memory", |status| {
        status["queue"]["held_bytes"].as_u64() >= Some(101_000)
    });
    drop((held, arriving));
    let status = daemon.wait_for_status("they are given back", |status| status["queue"]["held_bytes"] == 0);
    assert_eq!(status["queue"]["admitted"], 0, "{status}");
}

/// hyper reads on only when it has answered what it has; the leaving is noticed before that all the same.
#[test]
fn a_client_that_pipelined_and_leaves_stops_its_work_at_once() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let spin = request("POST /v1/call/spin?for=60s\nWindlass-Deadline: 5m", b"");
    // One more request, and more than hyper has read; the end still fits the socket's buffer behind it.
    for (leaving, more) in [("closes", 1), ("closes", 300), ("ends its side", 1), ("ends its side", 300)] {
        let mut running = Http::connect(daemon.http());
        running.send(&[spin.clone(), request("POST /v1/call/echo", &[7; 100]).repeat(more)].concat());
        daemon.wait_until_running("spin", 1);
        let mut waiting = Http::connect(daemon.http());
        waiting.send(&[spin.clone(), spin.clone()].concat());
        daemon.wait_for_status("one waits", |status| status["queue"]["waiting"] == 1);
        waiting.half_close();
        daemon.wait_for_status("who waited has left", |status| status["in_flight"] == 1);
        match leaving {
            "closes" => drop(running),
            _ => running.half_close(),
        }
        let status = daemon.wait_for_status("nothing is under way", |status| {
            status["in_flight"] == 0 && status["workers"][0]["running"].is_null()
        });
        assert_eq!(status["requests"].get("echo"), None, "{leaving}, {more}: {status}");
    }
    let status = daemon.status();
    assert_eq!(status["requests"]["spin"]["unanswered"], 8, "{status}");
    assert_eq!(status["operations"]["spin"]["done"], 0, "{status}");
}

#[test]
fn a_large_body_that_is_refused_ends_in_its_answer_and_not_in_a_reset() {
    let daemon = Daemon::start(&[("limits.body", "1MiB")]);
    let body = sample("random", 30_000_000).bytes;
    for _ in 0..5 {
        let mut http = Http::connect(daemon.http());
        // All of it is sent before anything is read, as urllib and many others do.
        http.send(&request("POST /v1/call/hash", &body));
        let answer = http.answer().unwrap();
        assert_eq!((answer.status, answer.problem()["code"].as_u64()), (413, Some(13)));
        assert!(answer.closes() && http.ends());
    }
}

#[test]
fn a_large_body_for_a_busy_daemon_ends_in_429_and_not_in_a_reset() {
    let daemon = Daemon::start(&[("queue.capacity", "1"), ("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut waiting = Http::connect(daemon.http());
    waiting.send(&request("POST /v1/call/echo", b"x"));
    daemon.wait_for_status("the queue is full", |status| status["queue"]["waiting"] == 1);
    let body = sample("random", 30_000_000).bytes;
    for _ in 0..5 {
        let mut http = Http::connect(daemon.http());
        http.send(&request("POST /v1/call/hash", &body));
        let answer = http.answer().unwrap();
        assert_eq!(answer.status, 429, "{answer:?}");
        assert!(
            answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok()),
            "{answer:?}"
        );
        assert_eq!(answer.problem()["code"], 20);
        assert!(answer.closes() && http.ends());
    }
    gate.release();
    assert_eq!(waiting.answer().unwrap().body, b"x");
}

#[test]
fn secrets_and_large_answers_go_through() {
    let daemon = Daemon::start(&[]);
    let mut http = Http::connect(daemon.http());
    http.send(
        b"POST /v1/call/password-hash?algorithm=bcrypt&cost=4 HTTP/1.1\r\nhost: localhost\r\n\
          transfer-encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nret\r\n0\r\n\r\n",
    );
    let hash = http.answer().unwrap();
    assert!(hash.text().starts_with("$2b$04$"), "{hash:?}");
    let head = format!("POST /v1/call/password-verify\nWindlass-Param-hash: {}", hash.text());
    http.send(&request(&head, b"secret"));
    assert_eq!(http.answer().unwrap().body, b"true");
    let body = sample("random", 20_000_000).bytes;
    http.send(&request("POST /v1/call/echo", &body));
    assert_eq!(http.answer().unwrap().body, body);
    daemon.wait_for_status("nothing is held", |status| status["queue"]["held_bytes"] == 0);
}
