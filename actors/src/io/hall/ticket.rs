//! A request that was admitted: its body, its way over the bridge, and the wait for its answer.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::Hall;
use super::answer::{Answered, Unanswered};
use crate::dispatch::{Answer, Batch, Failure, PendingReplies, Replies};
use crate::io::admit::Waiting;
use crate::io::alarm::Rang;
use crate::io::inflight::Crossed;
use crate::lifecycle::Phase;
use crate::operation::{Arguments, Declaration, Input, Secrecy};
use crate::settings::Settings;
use crate::telemetry::add;

/// An admitted request whose body may be read.
pub struct Ticket {
    pub(super) waiting: Box<Waiting>,
    /// What was admitted or measured last.
    pub(super) body_bytes: u64,
    /// When its head was.
    pub(super) received_at: Instant,
    pub(super) request: Unanswered,
}

/// Why no more is waited for.
#[derive(Debug)]
pub enum Impatience {
    /// The instant has come.
    Late,
    /// The daemon stops; this is what its client is told.
    Stopped(Failure),
}

impl Ticket {
    /// The operation, as the operator left it.
    pub fn declaration(&self) -> &Declaration {
        self.waiting.declaration()
    }

    /// The checked parameters.
    pub fn arguments(&self) -> &Arguments {
        &self.waiting.request.arguments
    }

    /// Whether the body has to be read into memory that is wiped.
    pub fn secrecy(&self) -> Secrecy {
        self.waiting.secrecy()
    }

    /// The settings that the request was admitted under.
    pub fn settings(&self) -> &Settings {
        &self.waiting.settings
    }

    /// Makes room for a body of `total` bytes in all, before so many are read. Never waits.
    ///
    /// # Errors
    ///
    /// Why a body of this length cannot be had. A shorter one may; otherwise the request ends by [`Ticket::fail`].
    pub fn try_grow(&mut self, total: u64) -> Result<(), Failure> {
        self.request.hall.world.measure(&mut self.waiting, total)?;
        self.body_bytes = total;
        Ok(())
    }

    /// Ends the request without a result; `failure` is what its client is told.
    pub fn fail(&mut self, failure: &Failure) {
        self.request.failed(failure);
    }

    /// Ready when `until` has come, or when what still arrives or is held has to be answered: `drain.timeout` passed.
    pub fn poll_patience(&mut self, context: &mut Context<'_>, until: Instant) -> Poll<Impatience> {
        let rang = ready!(self.request.alarm().poll(context, Phase::Cancelling, Some(until)));
        Poll::Ready(match rang {
            Rang::Time => Impatience::Late,
            Rang::Phase => Impatience::Stopped(drained_away()),
        })
    }

    /// Waits out the operation's hold if it has one, gives the request to the workers, and waits for the answer.
    /// `read_at` is when its body was complete.
    ///
    /// Dropping the future stops the work: nobody waits for it any more.
    pub async fn submit(self, input: Input, read_at: Instant) -> Answered {
        let Self { waiting, body_bytes, received_at, mut request } = self;
        let length = if input.len() as u64 == body_bytes { Length::AsSaid } else { Length::Found };
        let waiting = match complete(&request.hall, waiting, input, length) {
            Ok(waiting) => waiting,
            Err(failure) => return request.refuse(failure),
        };
        let mut now = read_at;
        if let Some(hold) = waiting.hold {
            let until = Some(now + hold);
            let held = poll_fn(|context| request.alarm().poll(context, Phase::Cancelling, until));
            if held.await == Rang::Phase {
                return request.refuse(drained_away());
            }
            now = Instant::now();
        }
        // It comes to the queue now, whatever that was like when its head was read, unless that was just now.
        if (now, length) != (received_at, Length::AsSaid) {
            let hall = &request.hall;
            if let Err(failure) = hall.world.released(&waiting, &hall.client, now) {
                return request.refuse(failure);
            }
        }
        let mut crossing = match hand_over(&request.hall, waiting, now) {
            Ok(crossing) => crossing,
            Err(failure) => return request.refuse(failure),
        };
        match poll_fn(|context| crossing.poll(context, &mut request)).await {
            Ok(answer) => request.answer(answer),
            Err(failure) => request.refuse(failure),
        }
    }
}

/// Whether a body is as long as the head of its request said.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Length {
    AsSaid,
    Found,
}

/// A request whose body is here.
fn complete(
    hall: &Hall,
    mut waiting: Box<Waiting>,
    input: Input,
    length: Length,
) -> Result<Box<Waiting>, Failure> {
    add(&hall.world.metrics.bytes_in, input.len() as u64);
    if length == Length::Found {
        hall.world.measure(&mut waiting, input.len() as u64)?;
        waiting.shrink_to_body(input.len() as u64);
    }
    waiting.request.held.arrived();
    waiting.request.input = input;
    Ok(waiting)
}

/// Takes a request that is complete, and held no longer, over the bridge.
#[allow(
    clippy::boxed_local,
    reason = "it is taken apart where it lies; unboxed, all of it would be copied before"
)]
fn hand_over(hall: &Hall, waiting: Box<Waiting>, now: Instant) -> Result<Crossing, Failure> {
    let world = &hall.world;
    let Waiting { settings, class, request, .. } = *waiting;
    let slots_max = world.slots_max(&settings);
    let output_bytes_max = settings.limits.answer_bytes_max();
    let deadline = request.deadline;
    let overdue_at = Some(deadline.min(now + settings.queue.wait_max));
    let (mut batch, pending) = Batch::new(settings, Arc::clone(&hall.client), class, output_bytes_max);
    batch.take_slot(&world.workers.bridge.admission, slots_max).map_err(|refusal| world.refused(refusal))?;
    let stop = batch.push(request, now);
    world.submit(batch);
    Ok(Crossing { crossed: Crossed { stop, queued_at: now, deadline, overdue_at }, pending })
}

/// A request that is with the workers. Nobody waits for it once this is dropped.
struct Crossing {
    crossed: Crossed,
    pending: PendingReplies,
}

impl Crossing {
    /// Ready with the answer, or with why none is waited for.
    fn poll(&mut self, context: &mut Context<'_>, request: &mut Unanswered) -> Poll<Result<Answer, Failure>> {
        loop {
            if let Poll::Ready(replies) = Pin::new(&mut self.pending).poll(context) {
                return Poll::Ready(replies.and_then(Replies::into_only).ok_or_else(Failure::lost));
            }
            let rang = ready!(request.alarm().poll(context, Phase::Over, self.crossed.overdue_at));
            if rang == Rang::Phase {
                return Poll::Ready(Err(Failure::drain_over()));
            }
            let now = Instant::now();
            if let Some(failure) = self.crossed.overdue(now) {
                let world = &request.hall.world;
                world.workers.wake();
                return Poll::Ready(Err(world.given_up(&self.crossed, failure, now)));
            }
            // A worker was quicker, or works for another that asks the same.
        }
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        // Raising the flag of a job that has ended does nothing.
        self.crossed.stop.raise();
    }
}

/// What has not reached the workers when `drain.timeout` passes.
fn drained_away() -> Failure {
    Failure { retry_safe: true, ..Failure::drain_over() }
}
