//! What the daemon's frames mean to a client. Knows nothing of sockets or of who waits.

use std::time::Duration;

use super::decoder::{Body, Frame};
use super::error::Failure;
use super::request::{Response, Terms, Totals};
use crate::frame::Kind;
use crate::message::{self, Extensions, Header, NoFields};

/// Something the daemon said.
#[derive(Debug)]
pub(super) enum Event<'a> {
    Welcome(Terms),
    Reply {
        id: u64,
        times: Times,
        body: Body<'a>,
    },
    Failure {
        id: u64,
        failure: Failure,
    },
    /// The connection itself failed; GoAway and the end follow.
    Broken(Failure),
    /// The daemon wants these bytes back as a Pong.
    Ping {
        id: u64,
        body: Body<'a>,
    },
    /// A Pong or Info.
    Answer {
        id: u64,
        body: Body<'a>,
    },
    GoAway {
        last_id: u64,
    },
    Closed(Totals),
    /// Nothing that a client without streaming acts on.
    Nothing,
}

/// What a Reply's header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) queue: Duration,
    pub(super) service: Duration,
    pub(super) load: u8,
}

impl Times {
    pub(super) fn with(self, body: Body<'_>) -> Response {
        Response {
            body: body.into_bytes(),
            queue_time: self.queue,
            service_time: self.service,
            load: self.load,
        }
    }
}

/// Reads a frame from the daemon.
///
/// # Errors
///
/// The rule that it breaks.
pub(super) fn interpret(frame: Frame<'_>) -> Result<Event<'_>, String> {
    let Frame { kind, flags, id, header, body } = frame;
    if flags != 0 {
        return Err(format!("a {} in parts, although streaming was not agreed on", kind.name()));
    }
    match kind {
        Kind::Reply => {
            let reply = read::<message::Reply<'_>>(header, |reply| &reply.extensions)?;
            let times = Times {
                queue: Duration::from_micros(reply.queue_time),
                service: Duration::from_micros(reply.service_time),
                // More is a later version's meaning of a full house.
                load: reply.load.min(100),
            };
            Ok(Event::Reply { id, times, body })
        }
        Kind::Failure => {
            let failure = failure(&read::<message::Failure<'_>>(header, |failure| &failure.extensions)?);
            Ok(if id == 0 { Event::Broken(failure) } else { Event::Failure { id, failure } })
        }
        Kind::Ping | Kind::Pong | Kind::Info => {
            let fields = NoFields::decode(kind, header).map_err(|error| error.to_string())?;
            understood(kind, &fields.extensions)?;
            Ok(if kind == Kind::Ping { Event::Ping { id, body } } else { Event::Answer { id, body } })
        }
        Kind::GoAway => {
            let away = read::<message::GoAway<'_>>(header, |away| &away.extensions)?;
            Ok(Event::GoAway { last_id: away.last_id })
        }
        Kind::Closed => {
            Ok(Event::Closed(totals(&read::<message::Closed<'_>>(header, |closed| &closed.extensions)?)))
        }
        Kind::Welcome => {
            let terms = terms(&read::<message::Welcome<'_>>(header, |welcome| &welcome.extensions)?);
            match terms.version {
                crate::VERSION => Ok(Event::Welcome(terms)),
                other => Err(format!("it chose version {other}, which was not offered")),
            }
        }
        Kind::Credit => Ok(Event::Nothing),
        Kind::Hello | Kind::Work | Kind::Data | Kind::Cancel | Kind::Query | Kind::Close => {
            Err(format!("a {} frame, which only a client may send", kind.name()))
        }
    }
}

fn read<'a, T: Header<'a>>(
    bytes: &'a [u8],
    extensions: impl FnOnce(&T) -> &Extensions<'a>,
) -> Result<T, String> {
    let header = T::decode(bytes).map_err(|error| error.to_string())?;
    understood(T::KIND, extensions(&header))?;
    Ok(header)
}

fn understood(kind: Kind, extensions: &Extensions<'_>) -> Result<(), String> {
    match extensions.must_understand() {
        Some(number) => Err(format!("extension {number} of a {} must be understood and is not", kind.name())),
        None => Ok(()),
    }
}

fn failure(header: &message::Failure<'_>) -> Failure {
    Failure {
        code: header.code(),
        message: header.message.to_owned(),
        retry_after: header.retry_after.map(Duration::from_millis),
        retry_safe: header.retry_safe,
        load: header.load.min(100),
    }
}

fn totals(header: &message::Closed<'_>) -> Totals {
    Totals {
        requests: header.requests,
        failures: header.failures,
        bytes_in: header.bytes_in,
        bytes_out: header.bytes_out,
        queue_time: Duration::from_micros(header.queue_time),
        service_time: Duration::from_micros(header.service_time),
    }
}

fn terms(header: &message::Welcome<'_>) -> Terms {
    Terms {
        server: header.server.to_owned(),
        version: header.version,
        features: header.features,
        frame_bytes_max: header.frame_bytes_max,
        body_bytes_max: header.body_bytes_max,
        in_flight_max: header.in_flight_max,
    }
}
