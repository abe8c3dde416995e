//! The blocking client: standard library sockets, one request at a time.

mod connection;
mod stream;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::connection::{Answer, Asked, Connection};
use super::address::Address;
use super::error::CallError;
use super::options::Options;
use super::outgoing::Outgoing;
use super::policy::{Attempts, later};
use super::request::{Request, Response, Terms, Totals};
use crate::frame::Kind;
use crate::limits::PING_BYTES_MAX;

/// A client of one daemon. Its connection is opened again when it was lost. Dropping it cuts the connection;
/// [`Client::close`] ends it in order.
pub struct Client {
    address: Address,
    options: Options,
    connection: Option<Connection>,
}

impl Client {
    /// Connects once, without trying again: a wrong address shows at once.
    ///
    /// # Errors
    ///
    /// `Unreachable`, `Protocol`, or the `Failure` with which the daemon refuses the connection.
    pub fn connect(address: Address, options: Options) -> Result<Self, CallError> {
        let connection = Some(Connection::open(&address, &options)?);
        Ok(Self { address, options, connection })
    }

    /// What the daemon's Welcome says; connects where necessary.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn terms(&mut self) -> Result<&Terms, CallError> {
        Ok(self.connection()?.terms())
    }

    /// Runs `request` and waits for its result, connecting and trying again as its [`Retry`](super::Retry) and the
    /// [`Options`] allow.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, or `DeadlineExceeded` when the daemon did not answer in time; it is then
    /// told to stop.
    pub fn call(&mut self, request: &Request) -> Result<Response, CallError> {
        let mut attempts = Attempts::begin(request, &self.options, Instant::now());
        loop {
            let error = match self.attempt(request, &attempts) {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            match attempts.wait_after(&error, &self.options, Instant::now()) {
                Some(wait) => pause(wait),
                None => return Err(error),
            }
        }
    }

    fn attempt(&mut self, request: &Request, attempts: &Attempts) -> Result<Response, CallError> {
        let connection = self.connection()?;
        request.check(connection.terms())?;
        let now = Instant::now();
        let remaining = attempts.remaining(now);
        if remaining.is_some_and(|left| left.is_zero()) {
            return Err(attempts.exceeded(now));
        }
        let put = |outgoing: &mut Outgoing, id| outgoing.work(id, request, remaining);
        match connection.ask(Asked::Request, attempts.give_up(), put)? {
            Answer::Response(response) => Ok(response),
            Answer::Bytes(_) | Answer::Totals(_) => Err(connection.mismatch()),
        }
    }

    /// Sends up to 64 bytes and waits for them to come back. One attempt.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a longer body; as [`Client::call`] otherwise.
    pub fn ping(&mut self, body: &[u8]) -> Result<Bytes, CallError> {
        let limit = u64::from(PING_BYTES_MAX);
        if body.len() as u64 > limit {
            return Err(CallError::TooLarge { what: "a Ping", found: body.len() as u64, limit });
        }
        self.question(|outgoing, id| outgoing.bare(Kind::Ping, id, body))
    }

    /// Asks the daemon about itself, [`SUBJECT_CATALOGUE`](super::SUBJECT_CATALOGUE) or
    /// [`SUBJECT_STATUS`](super::SUBJECT_STATUS), and returns its JSON. One attempt.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn query(&mut self, subject: u16) -> Result<Bytes, CallError> {
        self.question(|outgoing, id| outgoing.query(id, subject))
    }

    fn question(&mut self, put: impl FnOnce(&mut Outgoing, u64)) -> Result<Bytes, CallError> {
        let give_up = later(Instant::now(), self.options.answer_timeout);
        let connection = self.connection()?;
        match connection.ask(Asked::Other, give_up, put)? {
            Answer::Bytes(bytes) => Ok(bytes),
            Answer::Response(_) | Answer::Totals(_) => Err(connection.mismatch()),
        }
    }

    /// Ends the connection in order and returns the session's totals as the daemon counted them; all zero when
    /// there was no connection.
    ///
    /// # Errors
    ///
    /// `ConnectionLost` when the connection ended otherwise, `DeadlineExceeded` after
    /// [`Options::answer_timeout`].
    pub fn close(self) -> Result<Totals, CallError> {
        let Some(mut connection) = self.connection.filter(|connection| !connection.is_leaving()) else {
            return Ok(Totals::default());
        };
        let give_up = later(Instant::now(), self.options.answer_timeout);
        let opened_at = connection.opened_at();
        match connection.ask(Asked::Other, give_up, |outgoing, _| outgoing.close(opened_at))? {
            Answer::Totals(totals) => Ok(totals),
            Answer::Response(_) | Answer::Bytes(_) => Err(connection.mismatch()),
        }
    }

    /// The connection, unless the daemon has said goodbye on it, or a new one.
    fn connection(&mut self) -> Result<&mut Connection, CallError> {
        let mut kept = self.connection.take();
        let connection = match kept.take_if(|connection| connection.is_usable()) {
            Some(connection) => connection,
            None => Connection::open(&self.address, &self.options)?,
        };
        Ok(self.connection.insert(connection))
    }
}

#[allow(clippy::disallowed_methods, reason = "a back-off is time itself; there is no fact to wait for")]
fn pause(wait: Duration) {
    std::thread::sleep(wait);
}
