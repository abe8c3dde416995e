//! The blocking client: standard library sockets, one request at a time.

mod connection;
mod stream;

use std::time::{Duration, Instant};

use bytes::Bytes;

use self::connection::{Asked, Connection};
use super::address::{Address, Addresses};
use super::error::CallError;
use super::options::Options;
use super::policy::{Attempts, Failed, Policy, Stage, later};
use super::question::{Answer, Question};
use super::request::{Pong, Request, Response, Terms, Totals};

/// A client of one daemon, or of several that can do the same, with one connection to each that it has had use for. A
/// lost one is opened again. Dropping the client cuts its connections; [`Client::close`] ends them in order.
pub struct Client {
    endpoints: Vec<Endpoint>,
    options: Options,
    policy: Policy,
}

struct Endpoint {
    address: Address,
    connection: Option<Connection>,
}

impl Client {
    /// Connects to one of the daemons, without trying any of them twice: wrong addresses show at once.
    ///
    /// # Errors
    ///
    /// Of the last address tried: `Unreachable`, `Protocol`, or the `Failure` with which the daemon refuses the
    /// connection.
    pub fn connect(addresses: impl Into<Addresses>, options: Options) -> Result<Self, CallError> {
        let endpoint = |address: &Address| Endpoint { address: address.clone(), connection: None };
        let endpoints: Vec<_> = addresses.into().iter().map(endpoint).collect();
        let policy = Policy::new(endpoints.len(), &options, fastrand::Rng::new());
        let mut client = Self { endpoints, options, policy };
        client.ask(Question::Connect)?;
        Ok(client)
    }

    /// What the Welcome of one of the daemons says; connects where necessary.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub fn terms(&mut self) -> Result<Terms, CallError> {
        match self.ask(Question::Terms)? {
            (_, Answer::Terms(terms)) => Ok(terms),
            (index, _) => Err(self.mismatch(index)),
        }
    }

    /// Runs `request` and waits for its result, choosing a daemon, connecting and trying again as its
    /// [`Retry`](super::Retry) and the [`Options`] allow.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, or `DeadlineExceeded` when the daemon did not answer in time; it is then
    /// told to stop.
    pub fn call(&mut self, request: &Request) -> Result<Response, CallError> {
        match self.ask(Question::Work(request))? {
            (_, Answer::Response(response)) => Ok(response),
            (index, _) => Err(self.mismatch(index)),
        }
    }

    /// Sends up to 64 bytes and waits for them to come back. Tried again like a pure request.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a longer body; as [`Client::call`] otherwise.
    pub fn ping(&mut self, body: &[u8]) -> Result<Pong, CallError> {
        match self.ask(Question::Ping(body))? {
            (index, Answer::Bytes(body)) => Ok(Pong { body, address: self.endpoints[index].address.clone() }),
            (index, _) => Err(self.mismatch(index)),
        }
    }

    /// Asks one of the daemons about itself, [`SUBJECT_CATALOGUE`](super::SUBJECT_CATALOGUE) or
    /// [`SUBJECT_STATUS`](super::SUBJECT_STATUS), and returns its JSON. Tried again like a pure request.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub fn query(&mut self, subject: u16) -> Result<Bytes, CallError> {
        match self.ask(Question::Query(subject))? {
            (_, Answer::Bytes(bytes)) => Ok(bytes),
            (index, _) => Err(self.mismatch(index)),
        }
    }

    /// Asks until there is an answer, and says whose it is.
    fn ask(&mut self, question: Question<'_>) -> Result<(usize, Answer), CallError> {
        let mut attempts = self.policy.begin(question.wish(&self.options), Instant::now());
        loop {
            let index = self.policy.enter(&attempts, Instant::now());
            let result = self.attempt(index, question, &attempts);
            self.policy.leave(index);
            let failed = match result {
                Ok(answer) => {
                    self.policy.answered(index, answer.load(), Instant::now());
                    return Ok((index, answer));
                }
                Err(failed) => failed,
            };
            match self.policy.failed(&mut attempts, index, &failed, Instant::now()) {
                Some(wait) => pause(wait),
                None => return Err(failed.error),
            }
        }
    }

    fn attempt(
        &mut self,
        index: usize,
        question: Question<'_>,
        attempts: &Attempts,
    ) -> Result<Answer, Failed> {
        let patience = self.policy.connect_patience(attempts, Instant::now());
        let connection = self.endpoints[index]
            .connection(&self.options, patience)
            .map_err(|error| Failed { stage: Stage::Connecting, error })?;
        let failed = |error| Failed { stage: Stage::Asked, error };
        question.check(connection.terms()).map_err(failed)?;
        let asked = match question {
            Question::Connect | Question::Terms => return Ok(Answer::Terms(connection.terms().clone())),
            Question::Ping(_) | Question::Query(_) => Asked::Other,
            Question::Work(_) => Asked::Request,
        };
        let now = Instant::now();
        let remaining = attempts.remaining(now);
        if remaining.is_some_and(|left| left.is_zero()) {
            return Err(failed(attempts.exceeded(now)));
        }
        let put = |outgoing: &mut _, id| question.put(outgoing, id, remaining);
        connection.ask(asked, attempts.give_up(), put).map_err(failed)
    }

    /// Ends the connections in order and returns the totals of the sessions as the daemons counted them; all zero when
    /// there was none.
    ///
    /// # Errors
    ///
    /// `ConnectionLost` when a connection ended otherwise, `DeadlineExceeded` after
    /// [`Options::answer_timeout`].
    pub fn close(mut self) -> Result<Totals, CallError> {
        let give_up = later(Instant::now(), self.options.answer_timeout);
        let mut totals = Totals::default();
        for index in 0..self.endpoints.len() {
            let connection = &mut self.endpoints[index].connection;
            let Some(connection) = connection.as_mut().filter(|connection| !connection.is_leaving()) else {
                continue;
            };
            let opened_at = connection.opened_at();
            match connection.ask(Asked::Other, give_up, |outgoing, _| outgoing.close(opened_at))? {
                Answer::Totals(those) => totals = totals.plus(those),
                _ => return Err(self.mismatch(index)),
            }
        }
        Ok(totals)
    }

    /// An answer of another kind; its connection is of no more use.
    fn mismatch(&mut self, index: usize) -> CallError {
        let Endpoint { address, connection } = &mut self.endpoints[index];
        *connection = None;
        let reason = "a question was answered by a frame of another kind".to_owned();
        CallError::Protocol { address: address.clone(), reason }
    }
}

impl Endpoint {
    /// The connection, unless the daemon has said goodbye on it, or a new one.
    fn connection(&mut self, options: &Options, patience: Duration) -> Result<&mut Connection, CallError> {
        let mut kept = self.connection.take();
        let connection = match kept.take_if(|connection| connection.is_usable()) {
            Some(connection) => connection,
            None => Connection::open(&self.address, options, patience)?,
        };
        Ok(self.connection.insert(connection))
    }
}

#[allow(clippy::disallowed_methods, reason = "a back-off is time itself; there is no fact to wait for")]
fn pause(wait: Duration) {
    std::thread::sleep(wait);
}
