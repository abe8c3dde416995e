//! What a client can ask of whichever daemon it chooses, and how often.

use std::time::Duration;

use bytes::Bytes;

use super::error::CallError;
use super::options::Options;
use super::outgoing::Outgoing;
use super::policy::Wish;
use super::request::{Request, Response, Retry, Terms, Totals};
use crate::frame::Kind;
use crate::limits::PING_BYTES_MAX;

/// One question. Everything but Work is answered without work, so asking twice does no harm.
#[derive(Clone, Copy)]
pub(super) enum Question<'a> {
    /// Whether a connection can be made at all; each address is tried once.
    Connect,
    /// What a Welcome says.
    Terms,
    Ping(&'a [u8]),
    Query(u16),
    Work(&'a Request),
}

/// What comes back.
pub(super) enum Answer {
    /// To a Work.
    Response(Response),
    /// To a Ping or a Query.
    Bytes(Bytes),
    /// To a Close.
    Totals(Totals),
    /// To the first two.
    Terms(Terms),
}

impl Question<'_> {
    /// How often and for how long it is asked.
    pub(super) fn wish(&self, options: &Options) -> Wish {
        let (retry, deadline) = match self {
            Self::Connect => (Retry::Never, None),
            Self::Terms | Self::Ping(_) | Self::Query(_) => (Retry::Pure, None),
            Self::Work(request) => (request.retry, request.deadline),
        };
        Wish { retry, deadline, attempts_max: options.attempts_max }
    }

    /// Checks every bound that the daemon would refuse.
    pub(super) fn check(&self, terms: &Terms) -> Result<(), CallError> {
        match self {
            Self::Work(request) => request.check(terms),
            Self::Ping(body) if body.len() as u64 > u64::from(PING_BYTES_MAX) => Err(CallError::TooLarge {
                what: "a Ping",
                found: body.len() as u64,
                limit: u64::from(PING_BYTES_MAX),
            }),
            Self::Connect | Self::Terms | Self::Ping(_) | Self::Query(_) => Ok(()),
        }
    }

    /// Appends a frame that asks it; `remaining` is what is left of a request's deadline. A connection's Welcome has
    /// answered the others.
    pub(super) fn put(&self, outgoing: &mut Outgoing, id: u64, remaining: Option<Duration>) {
        match self {
            Self::Work(request) => outgoing.work(id, request, remaining),
            Self::Ping(body) => outgoing.bare(Kind::Ping, id, body),
            Self::Query(subject) => outgoing.query(id, *subject),
            Self::Connect | Self::Terms => {}
        }
    }
}

impl Answer {
    /// How busy the daemon says that it is.
    pub(super) fn load(&self) -> Option<u8> {
        match self {
            Self::Response(response) => Some(response.load),
            Self::Bytes(_) | Self::Totals(_) | Self::Terms(_) => None,
        }
    }
}
