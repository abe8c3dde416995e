//! How a conversation ends: in order, so that whoever reads can read all of it.

use windlass_protocol::{Closed, DecodeError, Extensions, FailureCode, GoAway, Kind, PREFACE};

use super::{Session, Stage};
use crate::dispatch::Failure;
use crate::io::admit::Waiting;
use crate::io::inbound::Misread;
use crate::io::inflight::Place;
use crate::telemetry::add;

/// The reason of a GoAway to a client that closed, left, or was idle for too long.
const NO_FAILURE: u16 = 0;

impl Session {
    /// The end of the peer's bytes, inside a frame or between two. After Close, everything is still finished;
    /// otherwise nobody waits any more, and whoever half-closed and reads is told so.
    pub(crate) fn end_of_input(&mut self, inside: Option<&'static str>) {
        match self.stage {
            Stage::Closing | Stage::Gone => {}
            Stage::Hello if inside.is_none() && !self.heard_preface => self.stage = Stage::Gone,
            Stage::Hello if inside.is_none() => self.violation("the stream ended before the Hello"),
            Stage::Hello | Stage::Open | Stage::Draining | Stage::Leaving(_) => {
                self.abandon_all(&Failure::left());
                match inside {
                    Some(what) => self.violation(&format!("the stream ended inside {what}")),
                    None => self.leave_quietly(NO_FAILURE),
                }
            }
        }
    }

    /// Bytes that are not the protocol.
    pub(crate) fn misread(&mut self, misread: &Misread) {
        match misread {
            Misread::LikeHttp => {
                let hint = format!(
                    "this is the native port of Windlass, which does not speak HTTP{}\n",
                    self.world.http_hint
                );
                let answer = format!(
                    "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
                     content-length: {}\r\nconnection: close\r\n\r\n{hint}",
                    hint.len()
                );
                add(&self.world.metrics.protocol_errors, 1);
                self.outbox.push_raw(answer.as_bytes());
                self.stage = Stage::Gone;
            }
            Misread::NotThePreface => self.violation("the first 8 bytes are not 'WINDLASS'"),
            Misread::Violation(violation) => self.violation(&violation.to_string()),
        }
    }

    pub(super) fn malformed(&mut self, error: &DecodeError) {
        self.violation(&error.to_string());
    }

    pub(super) fn not_understood(&mut self, kind: Kind, number: u16) {
        let message =
            format!("extension {number} of {} must be understood, and this daemon does not", kind.name());
        self.leave(FailureCode::UNSUPPORTED, &message);
    }

    pub(crate) fn violation(&mut self, message: &str) {
        self.leave(FailureCode::PROTOCOL_ERROR, message);
    }

    /// The peer broke the protocol, or there is no conversation to be had: what is open is stopped and answered, and
    /// the peer is told why.
    pub(super) fn leave(&mut self, code: FailureCode, message: &str) {
        if matches!(self.stage, Stage::Leaving(_) | Stage::Gone) {
            return;
        }
        add(&self.world.metrics.protocol_errors, 1);
        tracing::debug!(connection = self.number, code = %code, message, "connection ends");
        self.abandon_all(&Failure::ended(FailureCode::CANCELLED, "stopped, because the connection ends"));
        self.say_preface();
        let retry_safe = code == FailureCode::DRAINING;
        self.write_failure(0, &Failure { retry_safe, ..Failure::refused(code, message.to_owned()) });
        self.leave_quietly(code.number());
    }

    /// Nothing more is read; what is open is finished, then comes the last GoAway.
    pub(super) fn leave_quietly(&mut self, reason: u16) {
        if !matches!(self.stage, Stage::Leaving(_) | Stage::Gone) {
            self.stage = Stage::Leaving(reason);
        }
    }

    /// Nothing was asked for too long.
    pub(crate) fn leave_idle(&mut self) {
        self.leave_quietly(NO_FAILURE);
    }

    fn say_preface(&mut self) {
        if !self.said_preface {
            self.outbox.push_raw(&PREFACE);
            self.said_preface = true;
        }
    }

    fn go_away(&mut self, last_id: u64, reason: u16) {
        let go_away = GoAway { last_id, reason, extensions: Extensions::default() };
        self.outbox.push_frame(Kind::GoAway, 0, &go_away, &[]);
    }

    /// The drain has begun and what had arrived is read: says so, and accepts nothing more.
    pub(crate) fn drain(&mut self) {
        match self.stage {
            Stage::Hello => self.leave(FailureCode::DRAINING, "the daemon is shutting down"),
            Stage::Open => {
                self.go_away(u64::MAX, FailureCode::DRAINING.number());
                self.stage = Stage::Draining;
            }
            Stage::Closing | Stage::Draining | Stage::Leaving(_) | Stage::Gone => {}
        }
    }

    /// Says the last words once every answer is given.
    pub(crate) fn finish(&mut self) {
        if !self.inflight.is_empty() {
            return;
        }
        let reason = match self.stage {
            Stage::Closing => {
                self.say_closed();
                NO_FAILURE
            }
            Stage::Draining => FailureCode::DRAINING.number(),
            Stage::Leaving(reason) => reason,
            Stage::Hello | Stage::Open | Stage::Gone => return,
        };
        self.go_away(self.last_id, reason);
        self.stage = Stage::Gone;
    }

    fn say_closed(&mut self) {
        let closed = Closed {
            requests: self.totals.requests,
            failures: self.totals.failures,
            bytes_in: self.totals.bytes_in,
            bytes_out: self.totals.bytes_out,
            queue_time: self.totals.queue_micros,
            service_time: self.totals.service_micros,
            extensions: Extensions::default(),
        };
        self.outbox.push_frame(Kind::Closed, 0, &closed, &[]);
    }

    /// The drain's time is over: what is here is answered; what is with the workers is theirs to answer.
    pub(crate) fn cancel_waiting(&mut self, arriving: Option<Box<Waiting>>) {
        let failure = Failure { retry_safe: true, ..Failure::drain_over() };
        let held = std::mem::take(&mut self.held).into_iter().map(|held| held.waiting);
        for waiting in held.chain(arriving) {
            self.answer_if_open(waiting.id(), &failure);
        }
    }

    /// A body that will not come whole is answered for.
    pub(crate) fn give_up(&mut self, arriving: Option<Box<Waiting>>) {
        if let Some(waiting) = arriving {
            let failure = Failure::refused(FailureCode::CANCELLED, "the rest of the body did not come");
            self.answer_if_open(waiting.id(), &failure);
        }
    }

    /// Answers for everything, wherever it is.
    fn abandon_all(&mut self, failure: &Failure) {
        self.held.clear();
        let left = self.inflight.take_all();
        if left.is_empty() {
            return;
        }
        for open in left {
            // What has not crossed the bridge was not started.
            let retry_safe = failure.retry_safe || matches!(open.place, Place::Here);
            self.answer_failure(open.id, open.asked, &Failure { retry_safe, ..failure.clone() });
        }
        // What they hold is held until a worker comes across them.
        self.world.workers.wake();
    }

    /// The grace is over too: what the workers still run is answered for.
    pub(crate) fn drain_over(&mut self) {
        self.abandon_all(&Failure::drain_over());
        // Whoever has said Close is still told the totals.
        if self.stage != Stage::Closing {
            self.leave_quietly(FailureCode::DRAINING.number());
        }
    }
}
