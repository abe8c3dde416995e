//! One connection driven by one task, without a future, a lock or an allocation per request: for load generators.

use std::io::IoSlice;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::address::Address;
use super::decoder::Decoder;
use super::error::{CallError, Failure};
use super::options::Options;
use super::outgoing::{Outgoing, SLICES_MAX, append_work_head};
use super::request::{Request, Terms};
use super::session::{Event, interpret};
use super::socket::{Greeted, Reader, Writer, greet};

/// Bits of a request's id that hold its slot; the rest counts upwards, so that ids rise.
const SLOT_BITS: u32 = 16;

/// Pongs are not queued behind more small frames than this, bytes: a daemon that asks without reading gets none.
const PONG_BACKLOG_BYTES: usize = 1024 * 1024;

/// Where in an encoded frame the id stands.
const ID_BYTES: Range<usize> = 8..16;

/// A connection on which requests are pushed in batches and answers are taken as they come.
pub struct Pipe {
    address: Address,
    reader: Reader,
    writer: Writer,
    decoder: Decoder,
    outgoing: Outgoing,
    terms: Terms,
    pushed: u64,
    /// A write failed; the daemon's last words are read, but nothing more is sent.
    deaf: bool,
    /// The daemon has said that it reads no more requests.
    leaving: bool,
    broken: Option<Failure>,
}

/// A request encoded once and sent many times. Its `sent_at` is the time of the encoding.
#[derive(Debug, Clone)]
pub struct Template {
    head: Vec<u8>,
    body: Bytes,
}

/// The final answer to one request.
#[derive(Debug)]
pub enum Outcome {
    /// A result.
    Reply {
        /// From admission until a worker took it.
        queue_time: Duration,
        /// On the worker.
        service_time: Duration,
        /// Length of the output, bytes.
        body_bytes: u64,
    },
    /// A failure.
    Failure(Failure),
}

impl Template {
    /// Encodes `request` for a daemon of these terms.
    ///
    /// # Errors
    ///
    /// `TooLarge` when the daemon would refuse it for its size.
    pub fn new(request: &Request, terms: &Terms) -> Result<Self, CallError> {
        request.check(terms)?;
        let mut head = Vec::new();
        append_work_head(&mut head, 0, request, request.deadline);
        Ok(Self { head, body: request.body.clone() })
    }
}

impl Pipe {
    /// Connects once. Cancel safety: dropping the future closes the connection.
    ///
    /// # Errors
    ///
    /// As [`pipelined::Client::connect`](super::pipelined::Client::connect).
    pub async fn connect(address: &Address, options: &Options) -> Result<Self, CallError> {
        let Greeted { reader, writer, decoder, terms } =
            greet(address, options, options.connect_timeout).await?;
        Ok(Self {
            address: address.clone(),
            reader,
            writer,
            decoder,
            outgoing: Outgoing::default(),
            terms,
            pushed: 0,
            deaf: false,
            leaving: false,
            broken: None,
        })
    }

    /// What the daemon's Welcome said.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether the daemon reads no more requests: what is pushed now has no answer.
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Queues a request; [`Pipe::turn`] sends it and names its answer by `slot`. The caller keeps no two requests
    /// of one slot, nor more than [`Terms::in_flight_max`], in flight.
    pub fn push(&mut self, template: &Template, slot: u16) {
        self.pushed += 1;
        let id = (self.pushed << SLOT_BITS) | u64::from(slot);
        let out = self.outgoing.raw();
        let start = out.len();
        out.extend_from_slice(&template.head);
        out[start + ID_BYTES.start..start + ID_BYTES.end].copy_from_slice(&id.to_le_bytes());
        self.outgoing.body(&template.body);
    }

    /// Sends what was pushed and waits until something arrived, then calls `on` with the slot and outcome of each
    /// answer that is there. Answers may be none: the time may have gone into other frames.
    ///
    /// Cancel safety: may be dropped while it waits without losing a byte; `on` is called after the last wait.
    ///
    /// # Errors
    ///
    /// `ConnectionLost`, `Failure` or `Protocol` when the connection has ended; requests in flight have no answer.
    pub async fn turn(&mut self, mut on: impl FnMut(u16, Outcome)) -> Result<(), CallError> {
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = self.outgoing.slices(&mut slices);
            tokio::select! {
                biased;
                sent = self.writer.write_vectored(&slices[..used]), if used > 0 && !self.deaf => match sent {
                    Ok(sent) if sent > 0 => self.outgoing.advance(sent),
                    _ => self.deaf = true,
                },
                read = self.reader.read_buf(self.decoder.room()) => match read {
                    Ok(0) => return Err(self.ended("the daemon ended it")),
                    Ok(_) => return self.digest(&mut on),
                    Err(error) => return Err(self.ended(&error.to_string())),
                },
            }
        }
    }

    fn digest(&mut self, on: &mut impl FnMut(u16, Outcome)) -> Result<(), CallError> {
        let address = &self.address;
        let protocol = |reason| CallError::Protocol { address: address.clone(), reason };
        while let Some(frame) = self.decoder.next().map_err(protocol)? {
            match interpret(frame).map_err(protocol)? {
                Event::Reply { id, times, body } => {
                    let body_bytes = body.as_slice().len() as u64;
                    let (queue_time, service_time) = (times.queue, times.service);
                    on(slot(id), Outcome::Reply { queue_time, service_time, body_bytes });
                }
                Event::Failure { id, failure } => on(slot(id), Outcome::Failure(failure)),
                Event::Broken(failure) => self.broken = Some(failure),
                Event::GoAway { .. } => self.leaving = true,
                Event::Ping { id, body } if self.outgoing.tail_bytes() < PONG_BACKLOG_BYTES => {
                    self.outgoing.bare(crate::Kind::Pong, id, body.as_slice());
                }
                Event::Ping { .. } | Event::Answer { .. } | Event::Nothing => {}
                Event::Welcome(_) | Event::Closed(_) => {
                    return Err(protocol("a frame that nothing asked for".to_owned()));
                }
            }
        }
        Ok(())
    }

    fn ended(&mut self, reason: &str) -> CallError {
        match self.broken.take() {
            Some(failure) => CallError::Failure(failure),
            None => CallError::ConnectionLost { address: self.address.clone(), reason: reason.to_owned() },
        }
    }
}

/// The slot that an id carries.
fn slot(id: u64) -> u16 {
    let [low, high, ..] = id.to_le_bytes();
    u16::from_le_bytes([low, high])
}
