//! The rules of the bridge, one by one.

mod batches;
mod fitting;
mod hopeless;
mod nobody;
mod standby;
mod turns;

use std::task::{Context, Poll, Waker};

use windlass_protocol::FailureCode;

use super::*;
use crate::dispatch::budget::Shortage;
use crate::dispatch::job::BATCH_JOBS_MAX;
use crate::dispatch::schedule::{Schedule, Taken};
use crate::dispatch::{Budget, Failure, Newcomer, Refusal, ReplyBox};

fn bridge() -> Bridge {
    Bridge::new(2, Budget::new(1000, 2))
}

/// The answers that are there: id, and the code of a failure.
fn heard(replies: &mut ReplyBox) -> Vec<(u64, Option<FailureCode>)> {
    let mut context = Context::from_waker(Waker::noop());
    let mut answers = Vec::new();
    while let Poll::Ready(more) = replies.poll_answers(&mut context) {
        answers.extend(
            more.into_iter().map(|answer| (answer.id, answer.outcome.err().map(|failure| failure.code))),
        );
    }
    answers
}

fn waiting_for(pending: PendingReplies) -> ReplyBox {
    let mut replies = ReplyBox::default();
    replies.expect(pending);
    replies
}

fn three() -> [Wanted; 3] {
    [1, 2, 3].map(Wanted::interactive)
}

/// Runs an activation that nobody else helps, and says the order of the ids.
fn order(bridge: &Bridge) -> Vec<u64> {
    order_of(bridge, |_, estimated| estimated)
}

/// The same, where a job of this client uses so much time rather than what it was estimated at.
fn order_of(bridge: &Bridge, used: impl Fn(ClientKey, Duration) -> Duration) -> Vec<u64> {
    let mut ids = Vec::new();
    assert!(bridge.places.claim());
    bridge.activation(
        |mut batch| {
            let used = used(batch.client().key, batch.cpu());
            while let Some(job) = batch.next() {
                ids.push(job.id);
                batch.answer(done(job));
            }
            used
        },
        || {},
    );
    ids
}

/// Submits one job for each; keeps what they are answered.
fn submit_all(bridge: &Bridge, wanted: impl IntoIterator<Item = Wanted>) -> Vec<PendingReplies> {
    let settings = settings();
    let submit = |wanted: Wanted| {
        let (mut batch, replies) = empty_batch(bridge, &settings, wanted);
        // Slots are not what this is about.
        batch.take_slot(&bridge.admission, 10_000).unwrap();
        batch.push(admitted(bridge, wanted), Instant::now());
        bridge.submit(batch);
        replies
    };
    wanted.into_iter().map(submit).collect()
}

fn wanted(client: u32, id: u64, cpu: Duration) -> Wanted {
    Wanted { client, estimate: Estimate { cpu, ..COSTLESS }, ..Wanted::interactive(id) }
}

const MS: Duration = Duration::from_millis(1);
