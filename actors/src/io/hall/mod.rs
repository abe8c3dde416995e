//! What a front door other than the native one is lent: admission, workers and answers under the same laws.
//!
//! A door reads its own protocol from a [`Stream`], asks the [`Hall`] with the head of each request, and is given a
//! [`Ticket`] or a refusal, at once. It reads the body only with a ticket in hand, which owns what the request holds,
//! and gives it to [`Ticket::submit`]. Dropping a ticket, or the future that it became, means that nobody waits any
//! more.

mod answer;
mod ticket;

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use windlass_protocol::FailureCode;

use self::answer::Unanswered;
pub use self::answer::{Answered, Unwritten};
pub use self::ticket::{Impatience, Ticket};
use super::IoWorld;
use super::admit::{Arrival, Ask};
use super::alarm::Alarm;
use super::census::Resident;
use super::stream::{Peer, Stream};
use crate::dispatch::{Class, Client, Failure};
use crate::lifecycle::Phase;
use crate::settings::{Settings, TimeoutSettings};
use crate::telemetry::{Asked, catalogue_json};

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
        };
        let body_bytes = head.body_bytes.unwrap_or(0);
        let task = self.world.task(&settings, head.operation, head.parameters, body_bytes)?;
        let granted = self.world.admit(&settings, task, &ask)?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let asked = granted.asked(&settings);
        let waiting = Box::new(granted.keep(settings));
        self.world.metrics.requests_read(asked, 1);
        let request = Unanswered::new(Arc::clone(self), asked);
        let (body_bytes, received_at) = (head.body_bytes.unwrap_or(0), head.received_at);
        Ok(Ticket { waiting, body_bytes, received_at, request })
    }
}
