//! The blocking client.

use std::time::Duration;

use super::fake::{came_back_in_time, hasty, nobody, start};
use crate::client::blocking::Client;
use crate::client::{CallError, Request, Retry, SUBJECT_CATALOGUE};
use crate::{FailureCode, Kind};

fn echo(body: &'static str) -> Request {
    Request::new("echo").body(body)
}

#[test]
fn call_ping_query_and_close_are_answered() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        peer.serve().await
    });
    let mut client = Client::connect(address, hasty()).unwrap();
    assert_eq!(client.terms().unwrap().server, "fake");
    assert_eq!(client.call(&echo("body")).unwrap().body, "body");
    let large = vec![9; 1 << 20];
    assert_eq!(client.call(&Request::new("echo").body(large.clone())).unwrap().body, large);
    assert_eq!(client.ping(b"there?").unwrap().body, "there?");
    assert_eq!(client.query(SUBJECT_CATALOGUE).unwrap(), "{}");
    assert_eq!(client.close().unwrap().requests, 2);
}

#[test]
fn the_late_answer_to_a_request_that_was_given_up_is_not_the_next_ones() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        let late = peer.work().await?;
        let cancel = peer.receive().await?;
        assert_eq!((cancel.kind(), cancel.prefix.id), (Kind::Cancel.number(), late.prefix.id));
        let next = peer.work().await?;
        peer.reply(late.prefix.id, b"late");
        peer.reply(next.prefix.id, b"next");
        peer.finish().await
    });
    let mut options = hasty();
    options.deadline_grace = Duration::from_millis(10);
    let mut client = Client::connect(address, options).unwrap();
    let error = client.call(&echo("x").deadline(Duration::from_millis(10))).unwrap_err();
    assert!(matches!(error, CallError::DeadlineExceeded { .. }), "{error}");
    assert_eq!(client.call(&echo("y")).unwrap().body, "next");
}

#[test]
fn what_was_never_started_is_tried_again_and_what_may_have_run_is_not() {
    let lose = || {
        start(|mut peer| async move {
            peer.greet().await?;
            let work = peer.work().await?;
            match peer.index {
                0 => peer.failure(work.prefix.id, FailureCode::OVERLOADED, true),
                1 => peer.go_away(work.prefix.id - 1),
                2 => {}
                _ => peer.reply(work.prefix.id, b"at last"),
            }
            peer.finish().await
        })
    };
    let mut client = Client::connect(lose(), hasty()).unwrap();
    let error = client.call(&echo("x")).unwrap_err();
    assert!(matches!(error, CallError::ConnectionLost { .. }), "{error}");
    let mut client = Client::connect(lose(), hasty()).unwrap();
    assert_eq!(client.call(&echo("x").retry(Retry::Pure)).unwrap().body, "at last");
}

/// W-74
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_refused_request_comes_back_when_it_was_told_to_with_what_is_left_of_its_deadline() {
    let (sender, mut came) = tokio::sync::mpsc::unbounded_channel();
    let address = start(move |peer| peer.refuse_the_first(sender.clone()));
    let called = std::thread::spawn(|| {
        let mut client = Client::connect(address, hasty()).unwrap();
        client.call(&echo("x").deadline(Duration::from_secs(9))).unwrap().body
    });
    came_back_in_time(&mut came).await;
    assert_eq!(called.join().unwrap(), "x");
}

#[test]
fn a_connection_that_ended_between_two_calls_is_opened_again() {
    let (sender, ended) = std::sync::mpsc::channel();
    let address = start(move |mut peer| {
        let sender = sender.clone();
        async move {
            peer.greet().await?;
            let work = peer.work().await?;
            peer.reply(work.prefix.id, &work.body);
            peer.go_away(work.prefix.id);
            peer.flush().await?;
            sender.send(()).ok()?;
            peer.finish().await
        }
    });
    let mut client = Client::connect(address, hasty()).unwrap();
    for body in ["one", "two", "three"] {
        assert_eq!(client.call(&echo(body).retry(Retry::Never)).unwrap().body, body);
        ended.recv().unwrap();
    }
}

#[test]
fn errors_say_what_happened() {
    let error = Client::connect(nobody(), hasty()).err().unwrap();
    assert!(matches!(error, CallError::Unreachable { .. }), "{error}");
    let address = start(|mut peer| async move {
        peer.greet_with(3, 1).await?;
        peer.serve().await
    });
    let mut client = Client::connect(address, hasty()).unwrap();
    assert!(matches!(
        client.call(&echo("four")).unwrap_err(),
        CallError::TooLarge { found: 4, limit: 3, .. }
    ));
    assert!(matches!(client.ping(&[0; 65]).unwrap_err(), CallError::TooLarge { .. }));
}
