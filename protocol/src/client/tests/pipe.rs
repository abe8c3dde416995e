//! The lean connection.

use super::fake::{hasty, start};
use crate::FailureCode;
use crate::client::{CallError, Outcome, Pipe, Request, Template};

#[tokio::test]
async fn answers_name_the_slot_of_their_request() {
    let address = start(|mut peer| async move {
        peer.greet().await?;
        let frames = [peer.work().await?, peer.work().await?, peer.work().await?];
        assert!(frames.windows(2).all(|pair| pair[0].prefix.id < pair[1].prefix.id));
        peer.failure(frames[2].prefix.id, FailureCode::OVERLOADED, true);
        peer.reply(frames[1].prefix.id, b"12345");
        peer.reply(frames[0].prefix.id, b"1");
        peer.finish().await
    });
    let mut pipe = Pipe::connect(&address, &hasty()).await.unwrap();
    let template = Template::new(&Request::new("echo").body("body"), pipe.terms()).unwrap();
    for slot in [7, 0, 65_535] {
        pipe.push(&template, slot);
    }
    let mut seen = Vec::new();
    let error = loop {
        let turn = pipe.turn(|slot, outcome| match outcome {
            Outcome::Reply { body_bytes, .. } => seen.push((slot, Ok(body_bytes))),
            Outcome::Failure(failure) => seen.push((slot, Err(failure.code))),
        });
        if let Err(error) = turn.await {
            break error;
        }
    };
    assert_eq!(seen, [(65_535, Err(FailureCode::OVERLOADED)), (0, Ok(5)), (7, Ok(1))]);
    assert!(matches!(error, CallError::ConnectionLost { .. }));
}
