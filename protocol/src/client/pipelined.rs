//! The asynchronous client: many requests in flight on one connection, answered in any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::timeout_at;

use super::address::Address;
use super::error::CallError;
use super::link::{Answer, Link, Ticket};
use super::options::Options;
use super::policy::{Attempts, later};
use super::request::{Request, Response, Terms, Totals};
use crate::limits::PING_BYTES_MAX;

/// A client of one daemon. Clones share its connection, which is opened again when it was lost.
///
/// Calls wait for a place while [`Terms::in_flight_max`] or [`Options::in_flight_max`] requests are unanswered. When
/// the last clone is dropped the connection is cut; [`Client::close`] ends it in order.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    options: Options,
    connection: Mutex<Connection>,
    /// Rises when an attempt to connect fails, so that those who waited for it share its error.
    connects_failed: AtomicU64,
}

enum Connection {
    /// The last attempt failed. Next: `Open`, `Closed`.
    Absent(CallError),
    /// Usable until its link ends. Next: `Absent`, `Open`, `Closed`.
    Open(Arc<Link>),
    /// The end.
    Closed,
}

impl Client {
    /// Connects once, without trying again: a wrong address shows at once.
    ///
    /// Must be called in a tokio runtime with time and I/O enabled. Cancel safety: dropping the future closes what
    /// was opened.
    ///
    /// # Errors
    ///
    /// `Unreachable`, `Protocol`, or the `Failure` with which the daemon refuses the connection.
    pub async fn connect(address: Address, options: Options) -> Result<Self, CallError> {
        let link = Link::open(&address, &options).await?;
        let connection = Mutex::new(Connection::Open(link));
        let connects_failed = AtomicU64::new(0);
        Ok(Self { shared: Arc::new(Shared { address, options, connection, connects_failed }) })
    }

    /// What the daemon's Welcome says; connects where necessary. Cancel safety: may be dropped at any time.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]; `Closed` after [`Client::close`].
    pub async fn terms(&self) -> Result<Terms, CallError> {
        Ok(self.shared.link().await?.terms.clone())
    }

    /// Runs `request` and waits for its result, connecting and trying again as its [`Retry`](super::Retry) and the
    /// [`Options`] allow.
    ///
    /// Cancel safety: dropping the future sends Cancel; the daemon stops the work or never starts it, and what was
    /// begun of the frame is still sent whole.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, or `DeadlineExceeded` when the daemon did not answer in time.
    pub async fn call(&self, request: &Request) -> Result<Response, CallError> {
        let options = &self.shared.options;
        let mut attempts = Attempts::begin(request, options, Instant::now());
        loop {
            let give_up = attempts.give_up().into();
            let error = match timeout_at(give_up, self.attempt(request, &attempts)).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => error,
                Err(_) => return Err(attempts.exceeded(Instant::now())),
            };
            match attempts.wait_after(&error, options, Instant::now()) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(error),
            }
        }
    }

    async fn attempt(&self, request: &Request, attempts: &Attempts) -> Result<Response, CallError> {
        let link = self.shared.link().await?;
        request.check(&link.terms)?;
        let place = Arc::clone(&link.places)
            .acquire_owned()
            .await
            .map_err(|_| CallError::draining("the connection ended while the request waited for a place"))?;
        let remaining = attempts.remaining(Instant::now());
        if remaining.is_some_and(|left| left.is_zero()) {
            return Err(attempts.exceeded(Instant::now()));
        }
        match link.work(request, remaining, place)?.wait().await? {
            Answer::Response(response) => Ok(response),
            Answer::Bytes(_) => Err(self.mismatch("a request")),
        }
    }

    /// Sends up to 64 bytes and waits for them to come back: a round trip through the daemon's I/O world alone.
    /// One attempt. Cancel safety: may be dropped at any time.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a longer body; as [`Client::call`] otherwise.
    pub async fn ping(&self, body: &[u8]) -> Result<Bytes, CallError> {
        let limit = u64::from(PING_BYTES_MAX);
        if body.len() as u64 > limit {
            return Err(CallError::TooLarge { what: "a Ping", found: body.len() as u64, limit });
        }
        self.ask(|link| link.ping(body)).await
    }

    /// Asks the daemon about itself, [`SUBJECT_CATALOGUE`](super::SUBJECT_CATALOGUE) or
    /// [`SUBJECT_STATUS`](super::SUBJECT_STATUS), and returns its JSON. One attempt. Cancel safety: may be dropped
    /// at any time.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub async fn query(&self, subject: u16) -> Result<Bytes, CallError> {
        self.ask(|link| link.query(subject)).await
    }

    async fn ask(
        &self,
        send: impl FnOnce(&Arc<Link>) -> Result<Ticket, CallError>,
    ) -> Result<Bytes, CallError> {
        let began = Instant::now();
        let answer = async {
            match send(&self.shared.link().await?)?.wait().await? {
                Answer::Bytes(bytes) => Ok(bytes),
                Answer::Response(_) => Err(self.mismatch("a question")),
            }
        };
        match timeout_at(later(began, self.shared.options.answer_timeout).into(), answer).await {
            Ok(result) => result,
            Err(_) => Err(CallError::DeadlineExceeded { waited: began.elapsed() }),
        }
    }

    /// Sends no more, waits until everything in flight is answered, and returns the session's totals as the daemon
    /// counted them (of the last connection; all zero when there was none). Later calls of any clone fail with
    /// `Closed`.
    ///
    /// Cancel safety: the client is closed from the first poll on; dropping the future loses the totals only.
    ///
    /// # Errors
    ///
    /// `ConnectionLost` or a `Failure` when the connection ended otherwise; `DeadlineExceeded` after
    /// [`Options::answer_timeout`]; `Closed` when it was closed before.
    pub async fn close(&self) -> Result<Totals, CallError> {
        let began = Instant::now();
        let state = {
            let mut connection = self.shared.connection.lock().await;
            std::mem::replace(&mut *connection, Connection::Closed)
        };
        let link = match state {
            Connection::Absent(_) => return Ok(Totals::default()),
            Connection::Open(link) => link,
            Connection::Closed => return Err(CallError::Closed),
        };
        let Some(closed) = link.close() else { return Ok(Totals::default()) };
        match timeout_at(later(began, self.shared.options.answer_timeout).into(), closed).await {
            Ok(totals) => totals.unwrap_or(Err(CallError::Closed)),
            Err(_) => Err(CallError::DeadlineExceeded { waited: began.elapsed() }),
        }
    }

    fn mismatch(&self, asked: &str) -> CallError {
        CallError::Protocol {
            address: self.shared.address.clone(),
            reason: format!("{asked} was answered by a frame of another kind"),
        }
    }
}

impl Shared {
    /// The open connection, or a new one. Whoever waits while another connects shares the outcome.
    async fn link(&self) -> Result<Arc<Link>, CallError> {
        let failed_before = self.connects_failed.load(Ordering::Relaxed);
        let mut connection = self.connection.lock().await;
        match &*connection {
            Connection::Open(link) if link.is_open() => return Ok(Arc::clone(link)),
            Connection::Closed => return Err(CallError::Closed),
            Connection::Absent(error) if self.connects_failed.load(Ordering::Relaxed) != failed_before => {
                return Err(error.clone());
            }
            Connection::Open(_) | Connection::Absent(_) => {}
        }
        match Link::open(&self.address, &self.options).await {
            Ok(link) => {
                *connection = Connection::Open(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                self.connects_failed.fetch_add(1, Ordering::Relaxed);
                *connection = Connection::Absent(error.clone());
                Err(error)
            }
        }
    }
}

impl Drop for Shared {
    /// The safety net for a client that was not closed.
    fn drop(&mut self) {
        if let Connection::Open(link) = self.connection.get_mut() {
            link.abort();
        }
    }
}
