//! HTTP/2 with prior knowledge: streams are requests, each with a life of its own, and there are only so many.

use std::collections::BTreeSet;

use windlass_tests::h2::{ENHANCE_YOUR_CALM, H2, REFUSED_STREAM, frame, kind, reset};
use windlass_tests::http::ask;
use windlass_tests::{Daemon, Gate};

const ECHO: &str = "/v1/call/echo";
const SPIN: &str = "/v1/call/spin?for=60s";

#[track_caller]
fn assert_unharmed(daemon: &Daemon) {
    assert_eq!(ask(daemon.http(), "POST /v1/call/echo", b"still here").text(), "still here");
    let status = daemon.wait_for_status("nothing is held", |status| {
        status["queue"]["held_bytes"] == 0 && status["in_flight"] == 0
    });
    assert_eq!(status["panics"], 0, "{status}");
}

#[test]
fn a_stream_that_is_reset_stops_its_work_wherever_it_is_and_the_others_go_on() {
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("timeouts.deadline_default", "5m")]);
    let mut h2 = H2::connect(daemon.http());
    h2.send(&h2.post(1, SPIN, b""));
    daemon.wait_until_running("spin", 1);
    h2.send(&h2.post(3, SPIN, b""));
    h2.send(&h2.post(5, ECHO, b"patient"));
    daemon.wait_for_status("two wait", |status| status["queue"]["waiting"] == 2);
    h2.send(&h2.post(7, "/v1/call/echo?delay=4m", &[1; 1000]));
    daemon.wait_for_status("four are in flight", |status| status["in_flight"] == 4);
    h2.send(&reset(3));
    h2.send(&reset(7));
    daemon.wait_for_status("who waited and who was held have left", |status| status["in_flight"] == 2);
    h2.send(&reset(1));
    assert_eq!(h2.answer(5), b"patient");
    let status = daemon.wait_for_status("nothing is left", |status| {
        status["in_flight"] == 0 && status["operations"]["spin"]["dropped"] == 1
    });
    assert_eq!(status["operations"]["spin"]["stopped"], 1, "{status}");
    assert_eq!(status["requests"]["spin"]["unanswered"], 2, "{status}");
    assert_eq!(status["connections"]["doors"]["http"]["accepted"], 1);
    assert_unharmed(&daemon);
}

#[test]
fn a_stream_that_is_reset_in_the_middle_of_its_body_was_told_nothing() {
    let daemon = Daemon::start(&[]);
    let mut h2 = H2::connect(daemon.http());
    let head = frame(kind::HEADERS, 4, 1, &h2.head("POST", ECHO, &[("content-length", "1000")]));
    h2.send(&[head, frame(kind::DATA, 0, 1, &[1; 500])].concat());
    daemon.wait_for_status("its body arrives", |status| {
        status["queue"]["held_bytes"].as_u64().is_some_and(|held| held >= 1000)
    });
    h2.send(&reset(1));
    let status = daemon.wait_for_status("it has left", |status| status["in_flight"] == 0);
    assert_eq!(status["requests"], serde_json::json!({ "echo": { "unanswered": 1 } }));
    assert_unharmed(&daemon);
}

#[test]
fn streams_beyond_the_limit_are_refused_and_cost_the_others_nothing() {
    let daemon = Daemon::start(&[("limits.in_flight_per_connection", "4"), ("cpu.threads", "1")]);
    let mut h2 = H2::connect(daemon.http());
    // MAX_CONCURRENT_STREAMS is setting 3, and what it says is kept from the first stream on.
    let settings = h2.await_kind(kind::SETTINGS).payload;
    assert!(settings.chunks(6).any(|setting| setting == [0, 3, 0, 0, 0, 4]), "{settings:?}");
    let gate = Gate::hold(&daemon);
    for stream in [1, 3, 5, 7] {
        h2.send(&h2.post(stream, ECHO, b"here"));
    }
    for stream in [9, 11] {
        // Without a body: that would be one for a stream that is closed already, and overtake the refusal.
        h2.send(&h2.get(stream, "/v1/operations"));
    }
    for stream in [9, 11] {
        let refused = h2.await_kind(kind::RST_STREAM);
        assert_eq!((refused.stream, refused.error()), (stream, REFUSED_STREAM));
    }
    gate.release();
    let mut open = BTreeSet::from([1, 3, 5, 7]);
    while !open.is_empty() {
        let frame = h2.read().unwrap();
        assert!(frame.kind != kind::HEADERS || frame.is_ok(), "{frame:?}");
        if frame.ends_stream() {
            assert!(open.remove(&frame.stream), "{frame:?}");
        }
    }
    h2.send(&h2.post(13, ECHO, b"room again"));
    assert_eq!(h2.answer(13), b"room again");
    assert_unharmed(&daemon);
}

#[test]
fn a_thousand_streams_at_once_are_all_answered() {
    let daemon = Daemon::start(&[]);
    let mut h2 = H2::connect(daemon.http());
    let streams: Vec<u32> = (0..1000).map(|n| 2 * n + 1).collect();
    let all: Vec<u8> =
        streams.iter().flat_map(|stream| h2.post(*stream, ECHO, &stream.to_be_bytes())).collect();
    h2.send(&all);
    let mut open: BTreeSet<u32> = streams.into_iter().collect();
    while !open.is_empty() {
        let frame = h2.read().expect("an answer");
        match frame.kind {
            kind::HEADERS => assert!(frame.is_ok(), "{frame:?}"),
            kind::DATA if !frame.payload.is_empty() => assert_eq!(frame.payload, frame.stream.to_be_bytes()),
            kind::RST_STREAM | kind::GOAWAY => panic!("{frame:?}"),
            _ => {}
        }
        if frame.ends_stream() {
            assert!(open.remove(&frame.stream));
        }
    }
    assert_unharmed(&daemon);
}

/// CVE-2023-44487: begun and reset at once, streams are never many at a time.
#[test]
fn rapid_resets_end_the_connection_and_nothing_else() {
    let daemon = Daemon::start(&[]);
    let mut h2 = H2::connect(daemon.http());
    let mut other = H2::connect(daemon.http());
    for chunk in 0..200_u32 {
        let hundred: Vec<u8> = (0..100)
            .map(|n| 2 * (chunk * 100 + n) + 1)
            .flat_map(|stream| [h2.post(stream, "/v1/call/echo?delay=5s", b"x"), reset(stream)].concat())
            .collect();
        if !h2.try_send(&hundred) {
            break;
        }
    }
    let said = h2.await_kind(kind::GOAWAY);
    assert_eq!(said.error(), ENHANCE_YOUR_CALM);
    assert_eq!(h2.read(), None);
    other.send(&other.post(1, ECHO, b"not me"));
    assert_eq!(other.answer(1), b"not me");
    assert_unharmed(&daemon);
}

#[test]
fn heads_without_an_end_are_cut_off() {
    let daemon = Daemon::start(&[]);
    let mut h2 = H2::connect(daemon.http());
    let mut bytes = frame(kind::HEADERS, 0, 1, &h2.head("POST", ECHO, &[]));
    let line = windlass_tests::h2::field("x-flood", &"y".repeat(1000));
    // 16 MB of them, none the last.
    for _ in 0..1000 {
        bytes.extend(frame(kind::CONTINUATION, 0, 1, &line.repeat(16)));
    }
    h2.try_send(&bytes);
    let mut said = Vec::new();
    while let Some(frame) = h2.read() {
        said.push(frame);
    }
    assert!(!said.iter().any(windlass_tests::h2::Frame::is_ok), "{said:?}");
    assert_unharmed(&daemon);
}

#[test]
fn a_head_that_is_too_large_is_refused_on_its_stream_alone() {
    let daemon = Daemon::start(&[]);
    let mut h2 = H2::connect(daemon.http());
    let value = "y".repeat(1000);
    let many: Vec<(&str, &str)> = (0..70).map(|_| ("x-large", value.as_str())).collect();
    let head = h2.head("POST", ECHO, &many);
    let pieces: Vec<&[u8]> = head.chunks(16_000).collect();
    for (index, piece) in pieces.iter().enumerate() {
        let kind = if index == 0 { kind::HEADERS } else { kind::CONTINUATION };
        let flags = if index + 1 == pieces.len() { 4 } else { 0 };
        h2.send(&frame(kind, flags, 1, piece));
    }
    let refused = loop {
        let frame = h2.read().expect("a refusal");
        if frame.stream == 1 || frame.kind == kind::GOAWAY {
            break frame;
        }
    };
    assert!(matches!(refused.kind, kind::HEADERS | kind::RST_STREAM) && !refused.is_ok(), "{refused:?}");
    h2.send(&h2.post(3, ECHO, b"next"));
    assert_eq!(h2.answer(3), b"next");
    assert_unharmed(&daemon);
}
