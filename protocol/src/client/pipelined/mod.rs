//! The asynchronous client: many requests in flight on one connection to each daemon, answered in any order.

mod endpoint;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bytes::Bytes;
use tokio::time::timeout_at;

use self::endpoint::Endpoint;
use super::address::{Address, Addresses};
use super::error::CallError;
use super::options::Options;
use super::policy::{Attempts, Failed, Policy, Stage, later};
use super::question::{Answer, Question};
use super::request::{Pong, Request, Response, Terms, Totals};

/// A client of one daemon, or of several that can do the same. Clones share its connections, one to each daemon that
/// it has had use for; a lost one is opened again.
///
/// Calls wait for a place while [`Terms::in_flight_max`] or [`Options::in_flight_max`] requests are unanswered on a
/// connection. When the last clone is dropped the connections are cut; [`Client::close`] ends them in order.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    options: Options,
    policy: Mutex<Policy>,
}

impl Client {
    /// Connects to one of the daemons, without trying any of them twice: wrong addresses show at once.
    ///
    /// Must be called in a tokio runtime with time and I/O enabled. Cancel safety: dropping the future closes what
    /// was opened.
    ///
    /// # Errors
    ///
    /// Of the last address tried: `Unreachable`, `Protocol`, or the `Failure` with which the daemon refuses the
    /// connection.
    pub async fn connect(addresses: impl Into<Addresses>, options: Options) -> Result<Self, CallError> {
        let endpoints: Vec<_> = addresses.into().iter().cloned().map(Endpoint::new).collect();
        let policy = Mutex::new(Policy::new(endpoints.len(), &options, fastrand::Rng::new()));
        let client = Self { shared: Arc::new(Shared { endpoints, options, policy }) };
        client.ask(Question::Connect).await?;
        Ok(client)
    }

    /// What the Welcome of one of the daemons says; connects where necessary. Cancel safety: may be dropped at any
    /// time.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`]; `Closed` after [`Client::close`].
    pub async fn terms(&self) -> Result<Terms, CallError> {
        match self.ask(Question::Terms).await? {
            (_, Answer::Terms(terms)) => Ok(terms),
            (address, _) => Err(mismatch(address)),
        }
    }

    /// Runs `request` and waits for its result, choosing a daemon, connecting and trying again as its
    /// [`Retry`](super::Retry) and the [`Options`] allow.
    ///
    /// Cancel safety: dropping the future sends Cancel; the daemon stops the work or never starts it, and what was
    /// begun of the frame is still sent whole.
    ///
    /// # Errors
    ///
    /// The error of the last attempt, or `DeadlineExceeded` when the daemon did not answer in time.
    pub async fn call(&self, request: &Request) -> Result<Response, CallError> {
        match self.ask(Question::Work(request)).await? {
            (_, Answer::Response(response)) => Ok(response),
            (address, _) => Err(mismatch(address)),
        }
    }

    /// Sends up to 64 bytes and waits for them to come back: a round trip through a daemon's I/O world alone.
    /// Tried again like a pure request. Cancel safety: may be dropped at any time.
    ///
    /// # Errors
    ///
    /// `TooLarge` for a longer body; as [`Client::call`] otherwise.
    pub async fn ping(&self, body: &[u8]) -> Result<Pong, CallError> {
        match self.ask(Question::Ping(body)).await? {
            (address, Answer::Bytes(body)) => Ok(Pong { body, address: address.clone() }),
            (address, _) => Err(mismatch(address)),
        }
    }

    /// Asks one of the daemons about itself, [`SUBJECT_CATALOGUE`](super::SUBJECT_CATALOGUE) or
    /// [`SUBJECT_STATUS`](super::SUBJECT_STATUS), and returns its JSON. Tried again like a pure request. Cancel
    /// safety: may be dropped at any time.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub async fn query(&self, subject: u16) -> Result<Bytes, CallError> {
        match self.ask(Question::Query(subject)).await? {
            (_, Answer::Bytes(bytes)) => Ok(bytes),
            (address, _) => Err(mismatch(address)),
        }
    }

    /// Asks until there is an answer, and says whose it is.
    async fn ask(&self, question: Question<'_>) -> Result<(&Address, Answer), CallError> {
        let shared = &*self.shared;
        let mut attempts = shared.policy().begin(question.wish(&shared.options), Instant::now());
        loop {
            let turn = Turn::take(shared, &attempts);
            let attempt = shared.attempt(&turn, question, &attempts);
            let failed = match timeout_at(attempts.give_up().into(), attempt).await {
                Ok(Ok(answer)) => {
                    shared.policy().answered(turn.index, answer.load(), Instant::now());
                    return Ok((turn.endpoint().address(), answer));
                }
                Ok(Err(failed)) => failed,
                Err(_) => Failed { stage: Stage::Asked, error: attempts.exceeded(Instant::now()) },
            };
            let wait = shared.policy().failed(&mut attempts, turn.index, &failed, Instant::now());
            drop(turn);
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => return Err(failed.error),
            }
        }
    }

    /// Sends no more, waits until everything in flight is answered, and returns the totals of the sessions as the
    /// daemons counted them (of the last connection to each; all zero when there was none). Later calls of any
    /// clone fail with `Closed`.
    ///
    /// Cancel safety: dropping the future loses the totals; from the first one on that is waited for, every
    /// connection is closed.
    ///
    /// # Errors
    ///
    /// `ConnectionLost` or a `Failure` when a connection ended otherwise; `DeadlineExceeded` after
    /// [`Options::answer_timeout`]; `Closed` when it was closed before.
    pub async fn close(&self) -> Result<Totals, CallError> {
        let began = Instant::now();
        let mut closing = Vec::new();
        for endpoint in &self.shared.endpoints {
            closing.extend(endpoint.close().await?);
        }
        let totals = async {
            let mut totals = Totals::default();
            for closed in closing {
                totals = totals.plus(closed.await.unwrap_or(Err(CallError::Closed))?);
            }
            Ok(totals)
        };
        match timeout_at(later(began, self.shared.options.answer_timeout).into(), totals).await {
            Ok(totals) => totals,
            Err(_) => Err(CallError::DeadlineExceeded { waited: began.elapsed() }),
        }
    }
}

impl Shared {
    async fn attempt(
        &self,
        turn: &Turn<'_>,
        question: Question<'_>,
        attempts: &Attempts,
    ) -> Result<Answer, Failed> {
        let patience = self.policy().connect_patience(attempts, Instant::now());
        let link = turn
            .endpoint()
            .link(&self.options, patience)
            .await
            .map_err(|error| Failed { stage: Stage::Connecting, error })?;
        let asked = |error| Failed { stage: Stage::Asked, error };
        question.check(&link.terms).map_err(asked)?;
        let place = match question {
            Question::Connect | Question::Terms => return Ok(Answer::Terms(link.terms.clone())),
            Question::Ping(_) | Question::Query(_) => None,
            Question::Work(_) => Some(link.place().await.map_err(asked)?),
        };
        let now = Instant::now();
        let remaining = attempts.remaining(now);
        if remaining.is_some_and(|left| left.is_zero()) {
            return Err(asked(attempts.exceeded(now)));
        }
        let ticket = link.queue(place, |outgoing, id| question.put(outgoing, id, remaining));
        ticket.map_err(asked)?.wait().await.map_err(asked)
    }

    fn policy(&self) -> MutexGuard<'_, Policy> {
        self.policy.lock().expect("nothing panics while it holds the policy")
    }
}

/// An attempt at one daemon; dropped, it is over there, in whatever way.
struct Turn<'a> {
    shared: &'a Shared,
    index: usize,
}

impl<'a> Turn<'a> {
    fn take(shared: &'a Shared, attempts: &Attempts) -> Self {
        let index = shared.policy().enter(attempts, Instant::now());
        Self { shared, index }
    }

    fn endpoint(&self) -> &'a Endpoint {
        &self.shared.endpoints[self.index]
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.shared.policy().leave(self.index);
    }
}

fn mismatch(address: &Address) -> CallError {
    let reason = "a question was answered by a frame of another kind".to_owned();
    CallError::Protocol { address: address.clone(), reason }
}
