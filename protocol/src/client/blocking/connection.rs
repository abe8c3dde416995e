//! One connection of the blocking client.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::stream::{Stream, timed_out};
use crate::client::address::Address;
use crate::client::decoder::Decoder;
use crate::client::error::{CallError, Failure};
use crate::client::options::Options;
use crate::client::outgoing::{Outgoing, epoch_micros};
use crate::client::policy::later;
use crate::client::question::Answer;
use crate::client::request::Terms;
use crate::client::session::{Event, interpret};
use crate::client::socket::{ended_early, unreachable, welcome};
use crate::frame::Kind;

/// Pongs are not queued behind more bytes than this: a daemon that asks without reading gets none.
const PONG_BACKLOG_BYTES: usize = 4 * 1024;

/// Longest time that a Cancel after the deadline may take.
const CANCEL_PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Connection {
    address: Address,
    stream: Stream,
    decoder: Decoder,
    outgoing: Outgoing,
    terms: Terms,
    id_next: u64,
    opened_at: u64,
    /// The daemon takes no more requests here, or a frame was cut.
    leaving: bool,
    /// Why the daemon said that it would end the connection.
    broken: Option<CallError>,
}

/// What a frame asks for: only a request is concluded by GoAway and cancelled when its time is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Request,
    Other,
}

impl Connection {
    pub(super) fn open(address: &Address, options: &Options, patience: Duration) -> Result<Self, CallError> {
        let give_up = later(Instant::now(), patience);
        let cannot = |error: io::Error| unreachable(address, &error);
        let mut stream = Stream::connect(address, patience).map_err(cannot)?;
        let mut outgoing = Outgoing::opening(options);
        // A daemon that refuses at once may close before it reads; its reason is worth more than the error.
        let written = stream.send(&mut outgoing, give_up);
        let mut decoder = Decoder::new(options.frame_bytes_announced());
        let terms = loop {
            if let Some(terms) = welcome(&mut decoder, address)? {
                break terms;
            }
            match stream.receive(&mut decoder, give_up) {
                Ok(0) => return Err(written.err().map_or_else(|| ended_early(address), cannot)),
                Ok(_) => {}
                Err(error) if timed_out(&error) => {
                    let reason = format!("no Welcome within {patience:.1?}");
                    return Err(CallError::Unreachable { address: address.clone(), reason });
                }
                Err(error) => return Err(cannot(error)),
            }
        };
        Ok(Self {
            address: address.clone(),
            stream,
            decoder,
            outgoing: Outgoing::default(),
            terms,
            id_next: 1,
            opened_at: epoch_micros(),
            leaving: false,
            broken: None,
        })
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    pub(super) fn opened_at(&self) -> u64 {
        self.opened_at
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Looks, without waiting, whether the daemon has said goodbye since the last answer.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.leaving {
            return false;
        }
        let is_there = match self.stream.receive_now(&mut self.decoder) {
            Ok(received) => received > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        };
        // The goodbye may also have come together with the last answer.
        is_there && self.next_answer(Asked::Other, 0).is_ok() && !self.leaving
    }

    /// Sends one frame and waits for what answers it.
    pub(super) fn ask(
        &mut self,
        asked: Asked,
        give_up: Instant,
        put: impl FnOnce(&mut Outgoing, u64),
    ) -> Result<Answer, CallError> {
        let (began, id) = (Instant::now(), self.id_next);
        self.id_next += 1;
        put(&mut self.outgoing, id);
        loop {
            self.send(give_up).map_err(|_| CallError::DeadlineExceeded { waited: began.elapsed() })?;
            if let Some(answer) = self.next_answer(asked, id)? {
                return Ok(answer);
            }
            match self.stream.receive(&mut self.decoder, give_up) {
                Ok(0) if self.decoder.is_partial() => {
                    return Err(self.lost("it ended in the middle of a frame"));
                }
                Ok(0) => return Err(self.lost("the daemon ended it")),
                Ok(_) => {}
                Err(error) if timed_out(&error) => {
                    self.cancel(asked, id);
                    return Err(CallError::DeadlineExceeded { waited: began.elapsed() });
                }
                Err(error) => return Err(self.lost(&error.to_string())),
            }
        }
    }

    /// Sends what waits. After a failed write the daemon's reason may still be there to read, so only the end of
    /// the time is an error.
    fn send(&mut self, give_up: Instant) -> Result<(), ()> {
        match self.stream.send(&mut self.outgoing, give_up) {
            Ok(()) => Ok(()),
            Err(error) => {
                self.leaving = true;
                self.outgoing = Outgoing::default();
                if timed_out(&error) { Err(()) } else { Ok(()) }
            }
        }
    }

    fn cancel(&mut self, asked: Asked, id: u64) {
        if asked == Asked::Request {
            self.outgoing.bare(Kind::Cancel, id, &[]);
            // Where it cannot be sent, `send` has marked the connection.
            let _sent = self.send(later(Instant::now(), CANCEL_PATIENCE));
        }
    }

    /// Reads what has arrived, up to the answer to the frame with this id.
    fn next_answer(&mut self, asked: Asked, wanted: u64) -> Result<Option<Answer>, CallError> {
        loop {
            match self.next_event(asked, wanted) {
                Ok(Some((id, _))) if id >= self.id_next => {
                    return Err(self.protocol(format!("an answer to id {id}, which was never used")));
                }
                Ok(Some((id, answer))) if id == wanted => return answer.map(Some),
                // The late answer to something that was given up, or nothing that answers.
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(reason) => return Err(self.protocol(reason)),
            }
        }
    }

    /// The next frame as an answer to an id; id 0 answers nothing.
    #[allow(
        clippy::type_complexity,
        reason = "an answer to an id, the end of what arrived, or a broken rule"
    )]
    fn next_event(
        &mut self,
        asked: Asked,
        wanted: u64,
    ) -> Result<Option<(u64, Result<Answer, CallError>)>, String> {
        loop {
            let Some(frame) = self.decoder.next()? else { return Ok(None) };
            return Ok(Some(match interpret(frame)? {
                Event::Reply { id, times, body } => (id, Ok(Answer::Response(times.with(body)))),
                Event::Failure { id, failure } => (id, Err(CallError::Failure(failure))),
                Event::Answer { id, body } => (id, Ok(Answer::Bytes(body.into_bytes()))),
                Event::Closed(totals) => (wanted, Ok(Answer::Totals(totals))),
                Event::GoAway { last_id } => {
                    self.leaving = true;
                    if asked == Asked::Other || last_id >= wanted {
                        continue;
                    }
                    (wanted, Err(CallError::draining("the daemon left before it read the request")))
                }
                Event::Broken(failure) => {
                    self.leaving = true;
                    // What it says of the connection does not say that a request was not started.
                    self.broken = Some(CallError::Failure(Failure { retry_safe: false, ..failure }));
                    continue;
                }
                Event::Ping { id, body } => {
                    if self.outgoing.tail_bytes() < PONG_BACKLOG_BYTES {
                        self.outgoing.bare(Kind::Pong, id, body.as_slice());
                    }
                    continue;
                }
                Event::Welcome(_) => return Err("a second Welcome".to_owned()),
                Event::Nothing => continue,
            }));
        }
    }

    fn lost(&mut self, reason: &str) -> CallError {
        self.leaving = true;
        let (address, reason) = (self.address.clone(), reason.to_owned());
        self.broken.take().unwrap_or(CallError::ConnectionLost { address, reason })
    }

    fn protocol(&mut self, reason: String) -> CallError {
        self.leaving = true;
        CallError::Protocol { address: self.address.clone(), reason }
    }
}
