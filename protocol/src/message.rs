//! What the headers say. Each struct is one header of SPEC.md, field for field in wire order.
//!
//! Text is borrowed from the received bytes; a reader that keeps something copies just that.

use serde::{Deserialize, Serialize};

use crate::code::FailureCode;
use crate::error::DecodeError;
use crate::frame::Kind;
use crate::header::{self, bounded_list};
use crate::limits::{EXTENSIONS_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, PARAMETERS_MAX, VALUE_BYTES_MAX};

/// Priority of a request that somebody waits for.
pub const PRIORITY_INTERACTIVE: u8 = 0;
/// Priority of a request that may wait behind interactive ones. Numbers above are read as this one.
pub const PRIORITY_BATCH: u8 = 1;

/// Subject of a Query: the operations, their parameters and limits.
pub const SUBJECT_CATALOGUE: u16 = 1;
/// Subject of a Query: what runs and waits.
pub const SUBJECT_STATUS: u16 = 2;

/// An addition of a later version: number and content. Odd numbers must be understood, even ones may be ignored.
pub type Extension<'a> = (u16, &'a [u8]);

/// The end of every header.
#[derive(Serialize, Deserialize, Debug, Default, Clone, PartialEq, Eq)]
#[serde(transparent)]
pub struct Extensions<'a>(
    #[serde(borrow, deserialize_with = "bounded_list::<EXTENSIONS_MAX, _, _>")] pub Vec<Extension<'a>>,
);

impl Extensions<'_> {
    /// The first extension that a reader of version 1 must refuse: version 1 understands none, so every odd one.
    pub fn must_understand(&self) -> Option<u16> {
        self.0.iter().map(|(number, _)| *number).find(|number| number % 2 == 1)
    }
}

/// A header that can be read from a frame of its kind.
pub trait Header<'a>: Deserialize<'a> {
    /// The kind that carries it.
    const KIND: Kind;

    /// Checks the bounds that the encoding does not know.
    ///
    /// # Errors
    ///
    /// The first bound that is broken.
    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }

    /// Reads the header from exactly `bytes`.
    ///
    /// # Errors
    ///
    /// When the bytes are not this header, have something after it, or break a bound.
    fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let header: Self = header::read(Self::KIND.name(), bytes)?;
        header.check()?;
        Ok(header)
    }
}

fn at_most(kind: Kind, what: &'static str, found: usize, limit: usize) -> Result<(), DecodeError> {
    if found > limit {
        return Err(DecodeError::TooLong { kind: kind.name(), what, found, limit });
    }
    Ok(())
}

/// The first frame of a client.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Lowest version that the client speaks.
    pub version_min: u16,
    /// Highest version that the client speaks.
    pub version_max: u16,
    /// Feature bits that the client has.
    pub features: u64,
    /// Largest frame that the client reads, bytes.
    pub frame_bytes_max: u32,
    /// Bytes of a streamed body that may be sent before the first Credit.
    pub window: u32,
    /// What the client calls itself; at most [`NAME_BYTES_MAX`] bytes.
    pub client: &'a str,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// The first frame of the daemon.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The version that both will speak.
    pub version: u16,
    /// Feature bits that both have.
    pub features: u64,
    /// Largest frame that the daemon reads, bytes.
    pub frame_bytes_max: u32,
    /// Bytes of a streamed body that may be sent before the first Credit.
    pub window: u32,
    /// Largest body of a request in all, bytes.
    pub body_bytes_max: u64,
    /// Most requests that may be unanswered on this connection.
    pub in_flight_max: u32,
    /// What the daemon calls itself.
    pub server: &'a str,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// A request; the body is the operation's input.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Work<'a> {
    /// Name of the operation.
    pub operation: &'a str,
    /// Names and values; a name stands at most once.
    #[serde(borrow, deserialize_with = "bounded_list::<PARAMETERS_MAX, _, _>")]
    pub parameters: Vec<(&'a str, &'a str)>,
    /// When the client sent it, microseconds since the Unix epoch; informational.
    pub sent_at: u64,
    /// Milliseconds, counted from when the daemon reads the frame's prefix; `None` takes the daemon's default.
    pub deadline: Option<u64>,
    /// See [`PRIORITY_INTERACTIVE`] and [`PRIORITY_BATCH`].
    pub priority: u8,
    /// Length of the whole body where the client knows it.
    pub body_total: Option<u64>,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// What a [`Work`] asks for: its first fields, for a reader that takes it in two steps. Most requests of a connection
/// ask for the same, and need not be understood anew each time.
#[derive(Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Subject<'a> {
    /// Name of the operation.
    pub operation: &'a str,
    /// Names and values; a name stands at most once.
    #[serde(borrow, deserialize_with = "bounded_list::<PARAMETERS_MAX, _, _>")]
    pub parameters: Vec<(&'a str, &'a str)>,
}

/// The fields of a [`Work`] that follow its [`Subject`], with their meaning there.
#[derive(Deserialize, Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are those of Work")]
pub struct Terms<'a> {
    pub sent_at: u64,
    pub deadline: Option<u64>,
    pub priority: u8,
    pub body_total: Option<u64>,
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

impl<'a> Subject<'a> {
    /// Reads the beginning of a Work's header. Its [`Terms`] are in what follows it, and at the place that is
    /// returned with it.
    ///
    /// # Errors
    ///
    /// When the bytes do not begin like a Work, or break a bound.
    pub fn decode(header: &'a [u8]) -> Result<(Self, usize), DecodeError> {
        let (subject, used): (Self, _) = header::read_begin(Kind::Work.name(), header)?;
        check_subject(subject.operation, &subject.parameters)?;
        Ok((subject, used))
    }
}

impl<'a> Header<'a> for Terms<'a> {
    const KIND: Kind = Kind::Work;
}

fn check_subject(operation: &str, parameters: &[(&str, &str)]) -> Result<(), DecodeError> {
    at_most(Kind::Work, "operation", operation.len(), NAME_BYTES_MAX)?;
    parameters.iter().try_for_each(|(name, value)| {
        at_most(Kind::Work, "a parameter's name", name.len(), NAME_BYTES_MAX)?;
        at_most(Kind::Work, "a parameter's value", value.len(), VALUE_BYTES_MAX)
    })
}

/// A result; the body is the operation's output.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Reply<'a> {
    /// From admission until a worker took it, microseconds.
    pub queue_time: u64,
    /// On the worker, microseconds.
    pub service_time: u64,
    /// How busy the daemon is, 0 to 100.
    pub load: u8,
    /// Length of the whole body where it comes in parts.
    pub body_total: Option<u64>,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// Why there is no result. With id 0, why the connection ends.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Failure<'a> {
    /// Number of a [`FailureCode`].
    pub code: u16,
    /// For a person; at most [`MESSAGE_BYTES_MAX`] bytes.
    pub message: &'a str,
    /// Milliseconds after which the same request has a chance.
    pub retry_after: Option<u64>,
    /// Whether the operation has certainly not been started.
    pub retry_safe: bool,
    /// How busy the daemon is, 0 to 100.
    pub load: u8,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

impl<'a> Failure<'a> {
    /// The code.
    pub fn code(&self) -> FailureCode {
        FailureCode::from_number(self.code)
    }

    /// The longest start of `message` that a Failure can carry.
    pub fn bounded(message: &'a str) -> &'a str {
        &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)]
    }
}

/// How much of a body may be sent.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Credit<'a> {
    /// Bytes of this id allowed since its start, all grants together.
    pub bytes: u64,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// A question to the daemon about itself.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    /// [`SUBJECT_CATALOGUE`] or [`SUBJECT_STATUS`].
    pub subject: u16,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// The daemon will read no more requests.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct GoAway<'a> {
    /// Requests with higher ids were never accepted. `u64::MAX` while the last one is not known yet.
    pub last_id: u64,
    /// Number of the [`FailureCode`] that says why; 0 for a connection that was idle for too long or was closed
    /// by the client.
    pub reason: u16,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// The client will send no more requests.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Close<'a> {
    /// When the client opened the connection, microseconds since the Unix epoch; informational.
    pub opened_at: u64,
    /// When the client sent this, microseconds since the Unix epoch; informational.
    pub closed_at: u64,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// The session's totals.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Closed<'a> {
    /// Work frames read.
    pub requests: u64,
    /// How many of them were answered with a Failure.
    pub failures: u64,
    /// Bytes of bodies read.
    pub bytes_in: u64,
    /// Bytes of bodies written.
    pub bytes_out: u64,
    /// Sum over the replies, microseconds.
    pub queue_time: u64,
    /// Sum over the replies, microseconds.
    pub service_time: u64,
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

/// The header of a kind without fields (Data, Cancel, Ping, Pong, Info). It may also be left out altogether.
#[derive(Serialize, Deserialize, Debug, Default, Clone, PartialEq, Eq)]
pub struct NoFields<'a> {
    /// See [`Extensions`].
    #[serde(borrow)]
    pub extensions: Extensions<'a>,
}

impl<'a> NoFields<'a> {
    /// Reads the header of a frame of `kind`, where no bytes at all mean no extensions.
    ///
    /// # Errors
    ///
    /// When the bytes are not a list of extensions.
    pub fn decode(kind: Kind, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        if bytes.is_empty() { Ok(Self::default()) } else { header::read(kind.name(), bytes) }
    }
}

impl<'a> Header<'a> for Hello<'a> {
    const KIND: Kind = Kind::Hello;

    fn check(&self) -> Result<(), DecodeError> {
        at_most(Self::KIND, "client", self.client.len(), NAME_BYTES_MAX)
    }
}

impl<'a> Header<'a> for Welcome<'a> {
    const KIND: Kind = Kind::Welcome;

    fn check(&self) -> Result<(), DecodeError> {
        at_most(Self::KIND, "server", self.server.len(), NAME_BYTES_MAX)
    }
}

impl<'a> Header<'a> for Work<'a> {
    const KIND: Kind = Kind::Work;

    fn check(&self) -> Result<(), DecodeError> {
        check_subject(self.operation, &self.parameters)
    }
}

impl<'a> Header<'a> for Reply<'a> {
    const KIND: Kind = Kind::Reply;
}

impl<'a> Header<'a> for Failure<'a> {
    const KIND: Kind = Kind::Failure;

    fn check(&self) -> Result<(), DecodeError> {
        at_most(Self::KIND, "message", self.message.len(), MESSAGE_BYTES_MAX)
    }
}

impl<'a> Header<'a> for Credit<'a> {
    const KIND: Kind = Kind::Credit;
}

impl<'a> Header<'a> for Query<'a> {
    const KIND: Kind = Kind::Query;
}

impl<'a> Header<'a> for GoAway<'a> {
    const KIND: Kind = Kind::GoAway;
}

impl<'a> Header<'a> for Close<'a> {
    const KIND: Kind = Kind::Close;
}

impl<'a> Header<'a> for Closed<'a> {
    const KIND: Kind = Kind::Closed;
}
