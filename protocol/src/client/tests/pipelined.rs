//! The asynchronous client.

use std::time::Duration;

use tokio::sync::mpsc;

use super::fake::{Peer, came_back_in_time, hasty, heard, nobody, start};
use crate::client::pipelined::Client;
use crate::client::{Addresses, CallError, Request, Retry, SUBJECT_STATUS};
use crate::message::{self, Header};
use crate::{FailureCode, Kind, PREFACE};

fn echo(body: &'static str) -> Request {
    Request::new("echo").body(body)
}

fn code(result: Result<crate::client::Response, CallError>) -> FailureCode {
    match result.unwrap_err() {
        CallError::Failure(failure) => failure.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        let frames = [peer.work().await?, peer.work().await?, peer.work().await?];
        for frame in frames.iter().rev() {
            peer.reply(frame.prefix.id, &frame.body);
        }
        peer.finish().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let (one, two, three) = (echo("one"), echo("two"), echo("three"));
    let (one, two, three) = tokio::join!(client.call(&one), client.call(&two), client.call(&three));
    let one = one.unwrap();
    assert_eq!(one.body, "one");
    assert_eq!(one.queue_time, Duration::from_micros(3));
    assert_eq!(one.service_time, Duration::from_micros(4));
    assert_eq!(one.load, 5);
    assert_eq!(two.unwrap().body, "two");
    assert_eq!(three.unwrap().body, "three");
}

#[tokio::test]
async fn a_request_carries_what_its_caller_said() {
    let (sender, mut received) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        let sender = sender.clone();
        async move {
            peer.greet().await?;
            let frame = peer.work().await?;
            peer.reply(frame.prefix.id, b"");
            sender.send(frame).ok()?;
            peer.finish().await
        }
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let request = echo("body").parameter("delay", "1ms").deadline(Duration::from_secs(9));
    client.call(&request).await.unwrap();
    let frame = heard(&mut received).await;
    let work = message::Work::decode(&frame.header).unwrap();
    assert_eq!((work.operation, work.priority), ("echo", 0));
    assert_eq!(work.parameters, [("delay", "1ms")]);
    assert!((8_000..=9_000).contains(&work.deadline.unwrap()));
    assert_eq!(frame.body, b"body");
}

#[tokio::test]
async fn dropping_a_call_sends_cancel_and_keeps_its_place_until_the_answer() {
    let (sender, mut seen) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        let sender = sender.clone();
        async move {
            peer.greet_with(1 << 20, 1).await?;
            let work = peer.work().await?;
            sender.send(work.kind()).ok()?;
            let cancel = peer.receive().await?;
            assert_eq!(cancel.prefix.id, work.prefix.id);
            sender.send(cancel.kind()).ok()?;
            peer.failure(work.prefix.id, FailureCode::CANCELLED, false);
            peer.flush().await?;
            peer.serve().await
        }
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let request = echo("long");
    tokio::select! {
        _ = client.call(&request) => panic!("nobody answers this"),
        kind = heard(&mut seen) => assert_eq!(kind, Kind::Work.number()),
    }
    assert_eq!(heard(&mut seen).await, Kind::Cancel.number());
    assert_eq!(client.call(&echo("next")).await.unwrap().body, "next");
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_given_up_after_deadline_and_grace() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        while peer.receive().await.is_some() {}
        Some(())
    });
    let mut options = hasty();
    options.deadline_grace = Duration::from_millis(10);
    let client = Client::connect(address, options).await.unwrap();
    let error = client.call(&echo("x").deadline(Duration::from_millis(10))).await.unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded { waited } if waited >= Duration::from_millis(20)));
}

#[tokio::test]
async fn ids_above_the_last_of_a_go_away_are_tried_again_on_a_new_connection() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        if peer.index > 0 {
            return peer.serve().await;
        }
        let first = peer.work().await?;
        peer.work().await?;
        peer.go_away(u64::MAX);
        peer.reply(first.prefix.id, b"of the first");
        peer.go_away(first.prefix.id);
        peer.finish().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let (one, two) = (echo("one"), echo("two"));
    let (one, two) = tokio::join!(client.call(&one), client.call(&two));
    assert_eq!(one.unwrap().body, "of the first");
    assert_eq!(two.unwrap().body, "two");
}

#[tokio::test]
async fn a_request_that_a_leaving_daemon_never_read_is_draining_and_safe() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        peer.work().await?;
        peer.go_away(u64::MAX);
        peer.go_away(0);
        peer.finish().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let error = client.call(&echo("x").retry(Retry::Never)).await.unwrap_err();
    assert!(error.is_retry_safe());
    assert!(matches!(error, CallError::Failure(failure) if failure.code == FailureCode::DRAINING));
}

/// Ends the first connection after its request; serves the next.
async fn lose_the_first(mut peer: Peer) -> Option<()> {
    peer.greet().await?;
    if peer.index > 0 {
        return peer.serve().await;
    }
    peer.work().await?;
    peer.finish().await
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_unknown_unless_the_request_is_pure() {
    let client = Client::connect(start(lose_the_first), hasty()).await.unwrap();
    let error = client.call(&echo("x")).await.unwrap_err();
    assert!(matches!(&error, CallError::ConnectionLost { .. }), "{error}");
    assert!(!error.is_retry_safe());
    let client = Client::connect(start(lose_the_first), hasty()).await.unwrap();
    assert_eq!(client.call(&echo("x").retry(Retry::Pure)).await.unwrap().body, "x");
}

/// W-73
#[tokio::test]
async fn only_failures_that_are_safe_and_passing_are_tried_again() {
    let script = |failure: FailureCode, safe: bool| {
        start(move |mut peer| async move {
            peer.greet().await?;
            let work = peer.work().await?;
            peer.failure(work.prefix.id, failure, safe);
            peer.flush().await?;
            peer.serve().await
        })
    };
    for (failure, safe, tried_again) in [
        (FailureCode::OVERLOADED, true, true),
        (FailureCode::DRAINING, true, true),
        (FailureCode::OVERLOADED, false, false),
        (FailureCode::INVALID_PARAMETER, true, false),
        (FailureCode::INTERNAL, false, false),
    ] {
        let client = Client::connect(script(failure, safe), hasty()).await.unwrap();
        let result = client.call(&echo("x")).await;
        match tried_again {
            true => assert_eq!(result.unwrap().body, "x"),
            false => assert_eq!(code(result), failure),
        }
    }
}

/// W-74
#[tokio::test]
async fn a_refused_request_comes_back_when_it_was_told_to_with_what_is_left_of_its_deadline() {
    let (sender, mut came) = mpsc::unbounded_channel();
    let address = start(move |peer| peer.refuse_the_first(sender.clone()));
    let client = Client::connect(address, hasty()).await.unwrap();
    let request = echo("x").deadline(Duration::from_secs(9));
    assert_eq!(client.call(&request).await.unwrap().body, "x");
    came_back_in_time(&mut came).await;
}

#[tokio::test]
async fn what_one_daemon_refuses_another_does_and_both_are_closed_with_their_totals() {
    let busy = start(|mut peer| async move {
        peer.greet().await?;
        let frame = peer.work().await?;
        // For longer than the test has patience: nobody may wait for this one.
        peer.busy(frame.prefix.id, 600_000);
        peer.flush().await?;
        peer.serve().await
    });
    let free = start(|mut peer| async move {
        peer.greet().await?;
        peer.serve().await
    });
    let addresses = Addresses::new([busy, free.clone()]).unwrap();
    let mut options = hasty();
    // It rests for as long as it said, not for as long as a test would like.
    options.backoff.longest = Duration::from_secs(600);
    let client = Client::connect(addresses, options).await.unwrap();
    for _ in 0..20 {
        assert_eq!(client.call(&echo("x")).await.unwrap().body, "x");
    }
    assert_eq!(client.ping(b"who?").await.unwrap().address, free);
    // The busy one says 0 to its Close: it has counted none of them.
    assert_eq!(client.close().await.unwrap().requests, 20);
}

#[tokio::test]
async fn nobody_there_is_unreachable() {
    let error = Client::connect(nobody(), hasty()).await.err().unwrap();
    assert!(matches!(error, CallError::Unreachable { .. }));
}

#[tokio::test]
async fn a_client_reconnects_and_gives_up_after_its_attempts() {
    let (sender, mut connections) = mpsc::unbounded_channel();
    let address = start(move |mut peer| {
        sender.send(peer.index).unwrap();
        async move {
            if peer.index == 0 {
                peer.greet().await?;
            }
            peer.finish().await
        }
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    // Whether the end of the first connection is seen before the call or during it is a race.
    let error = client.call(&echo("x").retry(Retry::Pure)).await.unwrap_err();
    assert!(matches!(&error, CallError::Unreachable { .. }), "{error}");
    drop(client);
    let mut count = 0;
    while connections.try_recv().is_ok() {
        count += 1;
    }
    assert!((4..=5).contains(&count), "{count}");
}

#[tokio::test]
async fn a_body_over_the_daemons_limit_is_not_sent() {
    let address = start(|mut peer| async move {
        peer.greet_with(10, 4).await?;
        peer.serve().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let error = client.call(&echo("eleven byte")).await.unwrap_err();
    assert!(matches!(error, CallError::TooLarge { found: 11, limit: 10, .. }));
    assert_eq!(client.call(&echo("ten bytes.")).await.unwrap().body, "ten bytes.");
}

#[tokio::test]
async fn parameters_that_no_header_can_hold_are_refused_here() {
    let client = Client::connect(start(lose_the_first), hasty()).await.unwrap();
    let value = "v".repeat(4096);
    let request = (0..5).fold(echo(""), |request, index| request.parameter(format!("p{index}"), &value));
    assert!(matches!(client.call(&request).await.unwrap_err(), CallError::TooLarge { .. }));
    let request = echo("").parameter("p", "v".repeat(4097));
    assert!(matches!(client.call(&request).await.unwrap_err(), CallError::TooLarge { .. }));
}

/// W-68
#[tokio::test]
async fn hostile_bytes_end_the_connection_with_an_error_for_everybody() {
    let frame = |kind, flags, header_len, body_len, id| {
        crate::Prefix { kind, flags, header_len, body_len, id }.to_bytes().to_vec()
    };
    let hostile = [
        frame(5, 0, 0, 0, 1),
        frame(5, 1, 0, 0, 1),
        frame(77, 0, 0, 0, 1),
        frame(3, 0, 0, 0, 1),
        frame(5, 0, u16::MAX, 0, 1),
        frame(5, 0, 0, u32::MAX, 1),
        frame(10, 0, 0, 0, 999),
        frame(15, 0, 7, 0, 0).into_iter().chain([0; 7]).collect(),
    ];
    for bytes in hostile {
        let sent = bytes.clone();
        let address = start(move |mut peer| {
            let sent = sent.clone();
            async move {
                peer.greet().await?;
                peer.work().await?;
                peer.out.extend_from_slice(&sent);
                peer.flush().await?;
                peer.receive().await.map(|_| ())
            }
        });
        let client = Client::connect(address, hasty()).await.unwrap();
        let error = client.call(&echo("x")).await.unwrap_err();
        assert!(matches!(&error, CallError::Protocol { .. }), "{error} after {bytes:?}");
    }
}

#[tokio::test]
async fn a_stream_cut_in_a_frame_is_a_lost_connection() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        let work = peer.work().await?;
        peer.reply(work.prefix.id, b"cut here");
        peer.out.truncate(peer.out.len() - 3);
        peer.finish().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let error = client.call(&echo("x")).await.unwrap_err();
    assert!(
        matches!(&error, CallError::ConnectionLost { reason, .. } if reason.contains("middle")),
        "{error}"
    );
}

#[tokio::test]
async fn a_peer_of_another_protocol_is_named() {
    let address = start(|mut peer| async move {
        peer.out.extend_from_slice(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        peer.finish().await
    });
    let error = Client::connect(address, hasty()).await.err().unwrap();
    assert!(matches!(&error, CallError::Protocol { reason, .. } if reason.contains("HTTP/1.1")), "{error}");
}

#[tokio::test]
async fn a_daemon_that_refuses_the_connection_is_heard() {
    let address = start(|mut peer| async move {
        peer.out.extend_from_slice(&PREFACE);
        peer.failure(0, FailureCode::OVERLOADED, true);
        peer.go_away(0);
        peer.finish().await
    });
    let error = Client::connect(address, hasty()).await.err().unwrap();
    assert!(
        matches!(&error, CallError::Failure(failure) if failure.code == FailureCode::OVERLOADED),
        "{error}"
    );
}

#[tokio::test]
async fn large_bodies_and_small_frames_arrive_whole() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        peer.serve().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let large: Vec<u8> = (0..1 << 20).map(|index: u32| index.to_le_bytes()[1]).collect();
    let large_request = Request::new("echo").body(large.clone());
    let (small, ping) = (echo("small"), b"ping");
    let (a, b, c, d) = tokio::join!(
        client.call(&large_request),
        client.call(&small),
        client.ping(ping),
        client.query(SUBJECT_STATUS)
    );
    assert_eq!(a.unwrap().body, large);
    assert_eq!(b.unwrap().body, "small");
    assert_eq!(c.unwrap().body, &ping[..]);
    assert_eq!(d.unwrap(), "{}");
}

#[tokio::test]
async fn close_waits_for_the_answers_and_returns_the_totals() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        let work = peer.work().await?;
        assert_eq!(peer.receive().await?.kind(), Kind::Close.number());
        peer.reply(work.prefix.id, b"before the end");
        peer.closed(1);
        peer.finish().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let request = echo("x");
    let (response, totals) = tokio::join!(client.call(&request), client.close());
    assert_eq!(response.unwrap().body, "before the end");
    assert_eq!(totals.unwrap().requests, 1);
    assert_eq!(client.call(&request).await.unwrap_err(), CallError::Closed);
}

#[tokio::test]
async fn calls_wait_for_a_place_instead_of_exceeding_the_daemons_limit() {
    let address = start(|mut peer| async move {
        peer.greet_with(1 << 20, 1).await?;
        peer.serve().await
    });
    let client = Client::connect(address, hasty()).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        calls.spawn(async move { client.call(&echo("x")).await });
    }
    while let Some(result) = calls.join_next().await {
        assert_eq!(result.unwrap().unwrap().body, "x");
    }
}
