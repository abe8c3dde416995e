//! Requests: what their head asks, and what becomes of the body.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use windlass_protocol::limits::SKIP_BYTES_MAX;
use windlass_protocol::{DecodeError, FLAG_MORE, FailureCode, Prefix, Subject};
use zeroize::Zeroizing;

use super::known::{Read, Terms, Wanted};
use super::turn::{Decided, Filling};
use super::{Session, Stage, Turn};
use crate::dispatch::{Admitted, Batch, Class, Failure};
use crate::io::admit::{Arrival, Ask, Granted, Task, Waiting};
use crate::io::inbound::Body;
use crate::io::inflight::{Crossed, Place};
use crate::operation::{Input, Secrecy};
use crate::settings::Settings;
use crate::telemetry::Asked;

/// What becomes of the body that follows the head of a request.
pub(crate) enum Verdict {
    /// It was here and is taken.
    Taken,
    /// It is awaited.
    Awaited(Box<Waiting>),
    /// It is thrown away; the request is answered.
    Skip,
}

/// A held request, soonest first.
pub(super) struct Held {
    pub(super) until: Instant,
    pub(super) waiting: Box<Waiting>,
}

impl Session {
    /// The head of a request. Decides from it alone; then takes the body, if it lies whole in what was read.
    pub(crate) fn work(
        &mut self,
        turn: &mut Turn,
        prefix: Prefix,
        header: &[u8],
        body: Option<&[u8]>,
    ) -> Verdict {
        match self.stage {
            Stage::Open | Stage::Draining => {}
            Stage::Hello => {
                self.violation("the first frame is a Work, not a Hello");
                return Verdict::Skip;
            }
            Stage::Closing => {
                self.violation("a Work after Close");
                return Verdict::Skip;
            }
            Stage::Leaving(_) | Stage::Gone => return Verdict::Skip,
        }
        if let Some(decided) = turn.filling.decided.take()
            && let Some(body) = body
            && self.work_like_the_last(turn, decided, prefix, header, body)
        {
            return Verdict::Taken;
        }
        let (wanted, terms) = match self.read(turn, header, u64::from(prefix.body_len)) {
            Ok(read) => read,
            Err(error) => {
                self.malformed(&error);
                return Verdict::Skip;
            }
        };
        if prefix.id <= self.last_id {
            let last = self.last_id;
            self.violation(&format!("request id {} after {last}; ids strictly increase", prefix.id));
            return Verdict::Skip;
        }
        let more = prefix.flags & FLAG_MORE != 0;
        if let Some(total) = terms.body_total.filter(|total| !more && *total != u64::from(prefix.body_len)) {
            let found = prefix.body_len;
            self.violation(&format!(
                "body_total says {total} bytes, the frame has {found} and no more follow"
            ));
            return Verdict::Skip;
        }
        let (asked, task) = wanted;
        self.count_read(turn, prefix, asked);
        let body_bytes = u64::from(prefix.body_len);
        let arrival = if body.is_some() { Arrival::Here(body_bytes) } else { Arrival::Coming(body_bytes) };
        let granted = match self.stage {
            Stage::Draining => Err(Failure::draining()),
            _ => task.and_then(|task| self.admit(turn, prefix, task, &terms, arrival)),
        };
        let granted = match granted {
            Ok(granted) => granted,
            Err(failure) => {
                // Nobody knows what a body is that nobody takes.
                self.secret_read = true;
                self.answer_failure(prefix.id, asked, &failure);
                if body.is_none() && body_bytes > SKIP_BYTES_MAX {
                    self.leave_quietly(failure.code.number());
                }
                return Verdict::Skip;
            }
        };
        self.inflight.insert(prefix.id, asked);
        match body {
            Some(body) => {
                if granted.hold.is_none() && turn.known.same(header, body_bytes).is_some() {
                    turn.filling.decided = Some(Decided {
                        class: granted.class,
                        deadline: granted.request.deadline,
                        held_bytes: granted.request.held.bytes(),
                    });
                }
                self.body(turn, granted, body);
                Verdict::Taken
            }
            None => Verdict::Awaited(Box::new(granted.keep(Arc::clone(&turn.settings)))),
        }
    }

    /// A request that asks for the same as the one before, on the same terms: what was decided for that one need not be
    /// decided again. Whether it was taken; if not, it is for [`Session::work`] to say why.
    fn work_like_the_last(
        &mut self,
        turn: &mut Turn,
        decided: Decided,
        prefix: Prefix,
        header: &[u8],
        body: &[u8],
    ) -> bool {
        debug_assert!(matches!(self.stage, Stage::Open), "that one was granted in this turn");
        let settings = &turn.settings;
        let body_bytes = u64::from(prefix.body_len);
        let Some((asked, task)) = turn.known.same(header, body_bytes) else { return false };
        let in_flight_max = settings.limits.in_flight_per_connection.get();
        if prefix.flags != 0 || prefix.id <= self.last_id || self.inflight.len() >= in_flight_max as usize {
            return false;
        }
        let admission = &self.world.workers.bridge.admission;
        let Ok(held) = admission.hold(decided.held_bytes, settings.queue.memory_bytes_max) else {
            return false;
        };
        let request = Admitted {
            id: prefix.id,
            entry: task.entry,
            arguments: task.arguments.clone(),
            input: Input::Shared(Bytes::copy_from_slice(body)),
            deadline: decided.deadline,
            cost: task.cost,
            held,
        };
        turn.filling.decided = Some(decided);
        self.count_read(turn, prefix, asked);
        self.inflight.insert(prefix.id, asked);
        self.enqueue(turn, None, decided.class, request);
        true
    }

    fn count_read(&mut self, turn: &mut Turn, prefix: Prefix, asked: Asked) {
        let body_bytes = u64::from(prefix.body_len);
        self.last_id = prefix.id;
        self.totals.requests += 1;
        self.totals.bytes_in += body_bytes;
        turn.bytes_in += body_bytes;
        if let Some((asked, n)) = turn.read.add(asked) {
            self.world.metrics.requests_read(asked, n);
        }
    }

    /// Understands a header. What the one before it in this turn asked for is not looked up again.
    fn read(&self, turn: &mut Turn, header: &[u8], body_bytes: u64) -> Result<(Wanted, Terms), DecodeError> {
        let price = |task: &mut Task| self.world.price(&turn.settings, task);
        if let Some((wanted, terms)) = turn.known.find(header, body_bytes, price)? {
            return Ok((wanted, terms));
        }
        let (subject, subject_bytes) = Subject::decode(header)?;
        let terms = Terms::decode(&header[subject_bytes..])?;
        let task = self.world.task(&turn.settings, subject.operation, &subject.parameters, body_bytes);
        let asked = match &task {
            Ok(task) => {
                let entry = &turn.settings.catalogue.entries()[task.entry];
                let asked = entry.index.into();
                // What goes with a secret is not kept either.
                if entry.operation.declaration().secrecy == Secrecy::Open {
                    let (settings, subject_len, terms) = (&turn.settings, subject_bytes, &terms);
                    turn.known.note(header, Read { settings, subject_len, terms, body_bytes, asked, task });
                }
                asked
            }
            Err(_) => self.world.asked(subject.operation),
        };
        Ok(((asked, task), terms))
    }

    /// What only this protocol can be refused for, then what every door asks.
    fn admit(
        &self,
        turn: &mut Turn,
        prefix: Prefix,
        task: Task,
        terms: &Terms,
        body: Arrival,
    ) -> Result<Granted, Failure> {
        let unsupported = |message: String| Err(Failure::refused(FailureCode::UNSUPPORTED, message));
        if let Some(number) = terms.must_understand {
            return unsupported(format!("extension {number} must be understood, and this daemon does not"));
        }
        if prefix.flags & FLAG_MORE != 0 {
            return unsupported(
                "a body in several parts needs feature bit 0, which this daemon does not have".to_owned(),
            );
        }
        let ask = Ask {
            id: prefix.id,
            deadline: terms.deadline,
            client: self.client(),
            class: terms.class,
            body,
            received_at: turn.now,
            in_flight: self.inflight.len(),
        };
        self.world.admit(&turn.settings, task, &ask)
    }

    /// The memory for the body of a request that is not here yet.
    pub(crate) fn body_for(&mut self, waiting: &Waiting) -> Body {
        match waiting.secrecy() {
            Secrecy::Open => Body::Open { bytes: Vec::new(), from: 0 },
            Secrecy::Secret => {
                self.secret_read = true;
                Body::Secret(Zeroizing::default())
            }
        }
    }

    /// A body that lies whole in what was read.
    fn body(&mut self, turn: &mut Turn, granted: Granted, body: &[u8]) {
        let entry = &turn.settings.catalogue.entries()[granted.request.entry];
        let input = match entry.operation.declaration().secrecy {
            Secrecy::Open => Input::Shared(Bytes::copy_from_slice(body)),
            Secrecy::Secret => {
                self.secret_read = true;
                Input::Secret(Zeroizing::new(body.to_vec()))
            }
        };
        if granted.hold.is_some() {
            let waiting = granted.keep(Arc::clone(&turn.settings));
            return self.complete(turn, Box::new(waiting), input);
        }
        let request = Admitted { input, ..granted.request };
        self.enqueue(turn, None, granted.class, request);
    }

    /// A body that came in several reads.
    pub(crate) fn arrived(&mut self, turn: &mut Turn, mut waiting: Box<Waiting>, body: Body) {
        waiting.request.held.arrived();
        let input = match body {
            Body::Open { bytes, from } => Input::Shared(Bytes::from(bytes).slice(from..)),
            Body::Secret(bytes) => Input::Secret(bytes),
        };
        self.complete(turn, waiting, input);
    }

    fn complete(&mut self, turn: &mut Turn, mut waiting: Box<Waiting>, input: Input) {
        waiting.request.input = input;
        match waiting.hold.take() {
            Some(hold) => {
                let until = turn.now + hold;
                self.held.push(Held { until, waiting });
            }
            None => {
                // It comes to the queue now, whatever that was like when its head was read.
                if let Err(failure) = self.world.released(&waiting, self.client(), turn.now) {
                    return self.answer_if_open(waiting.id(), &failure);
                }
                let Waiting { settings, class, request, .. } = *waiting;
                self.enqueue(turn, Some(&settings), class, request);
            }
        }
    }

    /// Answers those that have waited for a worker for too long.
    pub(crate) fn expire_waiting(&mut self, now: Instant) {
        if self.inflight.overdue_at().is_none_or(|at| at > now) {
            return;
        }
        for (open, overdue) in self.inflight.take_overdue(now) {
            let failure = match &open.place {
                Place::There(crossed) => self.world.given_up(crossed, overdue, now),
                Place::Here => overdue,
            };
            self.answer_failure(open.id, open.asked, &failure);
        }
        // What they hold is held until a worker comes across them.
        self.world.workers.wake();
    }

    /// A body that has not come whole by its deadline: the request is answered, the rest of the body skipped.
    pub(crate) fn expire_arriving(&mut self, waiting: &Waiting, missing_bytes: u64) {
        self.answer_if_open(waiting.id(), &Failure::not_arrived());
        if missing_bytes > SKIP_BYTES_MAX {
            self.leave_quietly(FailureCode::DEADLINE_EXCEEDED.number());
        }
    }

    /// Gives those whose hold is over to the workers, unless the queue would make them too late.
    pub(crate) fn release(&mut self, now: Instant) {
        if self.held.peek().is_none_or(|held| held.until > now) {
            return;
        }
        let mut turn = self.begin_turn(now);
        while self.held.peek().is_some_and(|held| held.until <= now) {
            if let Some(Held { waiting, .. }) = self.held.pop() {
                if let Err(failure) = self.world.released(&waiting, self.client(), now) {
                    self.answer_if_open(waiting.id(), &failure);
                    continue;
                }
                let Waiting { settings, class, request, .. } = *waiting;
                self.enqueue(&mut turn, Some(&settings), class, request);
            }
        }
        self.end_turn(turn);
    }

    /// A complete request. `kept` are the settings that it was admitted under in an earlier turn; else they are this
    /// turn's.
    fn enqueue(&mut self, turn: &mut Turn, kept: Option<&Arc<Settings>>, class: Class, request: Admitted) {
        let settings = kept.unwrap_or(&turn.settings);
        let fits = turn.filling.batch.as_ref().is_some_and(|(batch, _)| {
            batch.class == class
                && Arc::ptr_eq(&batch.settings, settings)
                && batch.takes(&request.cost, &settings.catalogue.entries()[request.entry])
        });
        if !fits {
            self.submit(&mut turn.filling);
            let output_bytes_max = self.output_bytes_max.min(settings.limits.answer_bytes_max());
            let batch = Batch::new(Arc::clone(settings), Arc::clone(self.client()), class, output_bytes_max);
            turn.filling.batch = Some(batch);
        }
        let slots_max = self.world.slots_max(settings);
        if let Some((batch, _)) = &mut turn.filling.batch {
            if let Err(refusal) = batch.take_slot(&self.world.workers.bridge.admission, slots_max) {
                if batch.len() == 0 {
                    turn.filling.batch = None;
                }
                let id = request.id;
                drop(request);
                let failure = self.world.refused(refusal);
                return self.answer_if_open(id, &failure);
            }
            let (id, deadline, now) = (request.id, request.deadline, turn.now);
            let overdue_at = Some(deadline.min(now + batch.settings.queue.wait_max));
            let stop = batch.push(request, now);
            self.inflight.crossed(id, Crossed { stop, queued_at: now, deadline, overdue_at });
            // What cannot be joined is counted among what waits before the next request is admitted.
            if batch.is_full() {
                self.submit(&mut turn.filling);
            }
        }
    }

    /// Sends what was read so far over the bridge.
    pub(super) fn submit(&mut self, filling: &mut Filling) {
        if let Some((batch, replies)) = filling.batch.take() {
            self.replies.expect(replies);
            self.world.submit(batch);
            filling.decided = None;
        }
    }
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    /// Soonest is greatest, for the heap.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.until.cmp(&self.until)
    }
}
