//! What a front door other than the native one is lent: admission, workers and answers under the same laws.
//!
//! A door reads its own protocol from a [`Stream`], asks the [`Hall`] with the head of each request, and is given a
//! [`Ticket`] or a refusal, at once. It reads the body only with a ticket in hand, which owns what the request holds,
//! and gives it to [`Ticket::submit`]. Dropping a ticket, or the future that it became, means that nobody waits any
//! more.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::sync::watch;
use windlass_protocol::FailureCode;

use super::IoWorld;
use super::admit::{Arrival, Ask, Foresight, Waiting};
use super::alarm::{Alarm, Rang};
use super::census::Resident;
use super::inflight::Crossed;
use super::stream::{Peer, Stream};
use crate::dispatch::{Answer, Batch, Class, Client, Failure, HeldBytes, PendingReplies, Replies};
use crate::lifecycle::Phase;
use crate::operation::{Arguments, Declaration, Input, Output, Secrecy};
use crate::settings::{Settings, TimeoutSettings};
use crate::telemetry::{Asked, add, catalogue_json};

/// A protocol that requests come in by, besides the native one.
pub trait FrontDoor: Send + Sync + 'static {
    /// The scheme of its addresses, such as `http`.
    fn scheme(&self) -> &'static str;

    /// The whole life of one connection. It ends by itself in a drain: when every request that arrived before the
    /// drain is answered. It is dropped with the daemon, and only then.
    fn serve(&self, stream: Stream, hall: Hall) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// What is said to a connection for which there is no place, before it is closed.
    fn no_place(&self, failure: &Failure) -> Vec<u8>;
}

/// One connection's way in. Its place among the connections is freed when it is dropped.
pub struct Hall {
    world: Arc<IoWorld>,
    number: u64,
    peer: Peer,
    client: Arc<Client>,
    n_requests: AtomicU64,
    in_flight: AtomicUsize,
    unwritten_bytes: AtomicU64,
    closed: AtomicBool,
    /// The one that the last request has left for the next.
    alarm: Mutex<Option<Box<Alarm>>>,
    _resident: Resident,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Name of the operation.
    pub operation: &'a str,
    /// Names and values, in the order in which they were given.
    pub parameters: &'a [(&'a str, &'a str)],
    /// From `received_at` on; `None` takes the default.
    pub deadline: Option<Duration>,
    /// Who waits for it.
    pub class: Class,
    /// Bytes of the body; `None` where only its end will tell.
    pub body_bytes: Option<u64>,
    /// When it was read.
    pub received_at: Instant,
}

/// An admitted request whose body may be read.
pub struct Ticket {
    waiting: Box<Waiting>,
    /// What was admitted or measured last.
    body_bytes: u64,
    /// When its head was.
    received_at: Instant,
    request: Unanswered,
}

/// Why no more is waited for.
#[derive(Debug)]
pub enum Impatience {
    /// The instant has come.
    Late,
    /// The daemon stops; this is what its client is told.
    Stopped(Failure),
}

/// The final answer to a request.
pub struct Answered {
    /// The result, or why there is none.
    pub outcome: Result<Unwritten, Failure>,
    /// From the bridge to a worker.
    pub queue_time: Duration,
    /// On the worker.
    pub service_time: Duration,
}

impl Hall {
    pub(super) fn new(world: Arc<IoWorld>, peer: Peer, number: u64, resident: Resident) -> Self {
        let client = world.client(peer.client_key(number, world.settings.load().queue.fair_by));
        Self {
            world,
            number,
            peer,
            client,
            n_requests: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            unwritten_bytes: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            alarm: Mutex::new(None),
            _resident: resident,
        }
    }

    /// Number of the connection, as the logs name it.
    pub fn connection(&self) -> u64 {
        self.number
    }

    /// Who is at the other end, for the log.
    pub fn peer(&self) -> impl std::fmt::Display {
        self.peer
    }

    /// A number for one more request of this connection, from 1 on.
    pub fn next_request(&self) -> u64 {
        self.n_requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The settings in force. A request keeps the ones that it is admitted under.
    pub fn settings(&self) -> Arc<Settings> {
        self.world.settings.load_full()
    }

    /// How long anybody is waited for, by the settings in force.
    pub fn timeouts(&self) -> TimeoutSettings {
        self.world.settings.load().timeouts.clone()
    }

    /// The phase of the daemon, and its changes.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.world.phase.clone()
    }

    /// A clock and a view of the phases for one that waits.
    pub fn alarm(&self) -> Alarm {
        Alarm::new(self.phase())
    }

    /// The enabled operations as JSON.
    pub fn catalogue_json(&self) -> Vec<u8> {
        catalogue_json(&self.world)
    }

    /// From now on every request is answered `Draining`: the drain has begun, and what arrived before it is read.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Whether [`Hall::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Bytes of results whose last owner has not dropped them.
    pub fn unwritten_bytes(&self) -> u64 {
        self.unwritten_bytes.load(Ordering::Relaxed)
    }

    /// Counts a request that the door refused by itself.
    pub fn refused(&self, code: FailureCode) {
        self.count_refused(Asked::UNKNOWN, &Failure::refused(code, ""));
    }

    fn count_refused(&self, asked: Asked, failure: &Failure) {
        self.world.metrics.requests_read(asked, 1);
        self.world.metrics.failed(asked, failure);
    }

    /// Grants or refuses, at once.
    ///
    /// # Errors
    ///
    /// Why the request is refused. It is counted.
    pub fn admit(self: &Arc<Self>, head: &Head<'_>) -> Result<Ticket, Failure> {
        self.grant(head).inspect_err(|failure| self.count_refused(self.world.asked(head.operation), failure))
    }

    fn grant(self: &Arc<Self>, head: &Head<'_>) -> Result<Ticket, Failure> {
        // Cheap, and before anything else: a goodbye has been said.
        if self.is_closed() {
            return Err(Failure::draining());
        }
        let settings = self.world.settings.load_full();
        let (unwritten, limit) = (self.unwritten_bytes(), settings.limits.unwritten_bytes_max);
        if unwritten > limit {
            let message = format!(
                "{unwritten} bytes of answers are not read yet on this connection, more than \
                 limits.unwritten_per_connection, {limit} bytes"
            );
            return Err(Failure::refused(FailureCode::OVERLOADED, message));
        }
        let ask = Ask {
            id: 1,
            deadline: head.deadline,
            client: &self.client,
            class: head.class,
            body: match head.body_bytes {
                Some(0) => Arrival::Here(0),
                Some(bytes) => Arrival::Coming(bytes),
                None => Arrival::Coming(0),
            },
            received_at: head.received_at,
            in_flight: self.in_flight.load(Ordering::Relaxed),
            foresight: Foresight::Needed,
        };
        let body_bytes = head.body_bytes.unwrap_or(0);
        let task = self.world.task(&settings, head.operation, head.parameters, body_bytes)?;
        let granted = self.world.admit(&settings, task, &ask)?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let asked = granted.asked(&settings);
        let waiting = Box::new(granted.keep(settings));
        self.world.metrics.requests_read(asked, 1);
        let request = Unanswered { hall: Arc::clone(self), asked, answered: false, alarm: None };
        let (body_bytes, received_at) = (head.body_bytes.unwrap_or(0), head.received_at);
        Ok(Ticket { waiting, body_bytes, received_at, request })
    }
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
    world.workers.submit(batch);
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

/// A request that is owed an answer. Dropped without one, its client has left.
struct Unanswered {
    hall: Arc<Hall>,
    asked: Asked,
    answered: bool,
    /// Once it was waited with.
    alarm: Option<Box<Alarm>>,
}

impl Unanswered {
    /// The connection's, unless another request of it has that.
    fn alarm(&mut self) -> &mut Alarm {
        let hall = &self.hall;
        self.alarm.get_or_insert_with(|| {
            let left = hall.alarm.lock().unwrap_or_else(PoisonError::into_inner).take();
            left.unwrap_or_else(|| Box::new(hall.alarm()))
        })
    }

    fn answer(&mut self, answer: Answer) -> Answered {
        let Answer { outcome, queue_time, service_time, mut held, .. } = answer;
        let metrics = &self.hall.world.metrics;
        let n_bytes = outcome.as_ref().map_or(0, |output| output.0.len() as u64);
        held.shrink_to(n_bytes);
        self.answered = true;
        match &outcome {
            Ok(_) => {
                metrics.replied(self.asked, 1);
                add(&metrics.bytes_out, n_bytes);
            }
            Err(failure) => metrics.failed(self.asked, failure),
        }
        let unwritten = |Output(bytes)| Unwritten::new(Arc::clone(&self.hall), bytes, held);
        Answered { outcome: outcome.map(unwritten), queue_time, service_time }
    }

    fn failed(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.answered, true) {
            self.hall.world.metrics.failed(self.asked, failure);
        }
    }

    fn refuse(&mut self, failure: Failure) -> Answered {
        self.failed(&failure);
        Answered { outcome: Err(failure), queue_time: Duration::ZERO, service_time: Duration::ZERO }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            self.hall.world.metrics.unanswered(self.asked);
            // What it holds is held until a worker comes across it.
            self.hall.world.workers.wake();
        }
        self.hall.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(alarm) = self.alarm.take() {
            *self.hall.alarm.lock().unwrap_or_else(PoisonError::into_inner) = Some(alarm);
        }
    }
}

/// A result on its way out. What it holds is held until it is dropped, which is when it is written.
pub struct Unwritten {
    hall: Arc<Hall>,
    /// What is left of it.
    bytes: Bytes,
    /// All of it.
    n_bytes: u64,
    _held: HeldBytes,
}

impl Unwritten {
    fn new(hall: Arc<Hall>, bytes: Bytes, held: HeldBytes) -> Self {
        let n_bytes = bytes.len() as u64;
        hall.unwritten_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        Self { hall, bytes, n_bytes, _held: held }
    }
}

impl Buf for Unwritten {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, n_bytes: usize) {
        self.bytes.advance(n_bytes);
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.hall.unwritten_bytes.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}
