//! What the frames of one connection mean: who is admitted, who is refused, and what is answered.
//!
//! Knows no socket and never waits: the connection feeds it frames and answers, and carries what it says.

use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use windlass_protocol::limits::{FRAME_BYTES_MIN, SKIP_BYTES_MAX};
use windlass_protocol::{
    Close, Closed, DecodeError, Extensions, FLAG_MORE, FailureCode, GoAway, Header, Hello, Kind, NoFields,
    PREFACE, PREFIX_BYTES, PRIORITY_INTERACTIVE, Prefix, Query, Reply, SUBJECT_CATALOGUE, SUBJECT_STATUS,
    VERSION, Welcome, Work,
};
use zeroize::Zeroizing;

use super::IoWorld;
use super::inbound::{Body, Misread};
use super::inflight::{Inflight, Place};
use super::outbox::Outbox;
use crate::dispatch::{Admitted, Answer, Batch, Class, ClientKey, Failure, PendingReplies, ReplyBox};
use crate::operation::{Arguments, Input, Secrecy};
use crate::settings::Settings;
use crate::telemetry::{add, catalogue_json, status_json};

/// Room for the head of a Reply in `frame_bytes_max`.
const REPLY_HEAD_BYTES: u64 = 64;

/// Where the conversation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nothing is understood yet. Next: [`Stage::Open`] or [`Stage::Leaving`].
    Hello,
    /// Requests are accepted. Next: any below.
    Open,
    /// The client has said Close; what was accepted is finished. Next: [`Stage::Leaving`].
    Closing,
    /// The daemon has said that it goes; what was accepted is finished, later requests are answered Draining. Next:
    /// [`Stage::Leaving`].
    Draining,
    /// The last GoAway is said; nothing more is read. What was accepted is still finished.
    Leaving,
}

/// A request that is read but not complete, or held.
pub(crate) struct Waiting {
    settings: Arc<Settings>,
    class: Class,
    request: Admitted,
    hold: Option<Duration>,
}

/// What becomes of the body that follows the head of a request.
pub(crate) enum Verdict {
    /// It is awaited.
    Read(Box<Waiting>),
    /// It is thrown away; the request is answered.
    Skip,
}

/// The batches that one read fills.
#[derive(Default)]
struct Filling {
    batch: Option<(Batch, PendingReplies)>,
}

/// What was read and written.
#[derive(Default)]
struct Totals {
    requests: u64,
    failures: u64,
    bytes_in: u64,
    bytes_out: u64,
    queue_time: Duration,
    service_time: Duration,
}

/// A held request, soonest first.
struct Held {
    until: Instant,
    waiting: Box<Waiting>,
}

/// One conversation.
pub(crate) struct Session {
    world: Arc<IoWorld>,
    pub(crate) number: u64,
    client_key: ClientKey,
    stage: Stage,
    pub(crate) outbox: Outbox,
    pub(crate) replies: ReplyBox,
    inflight: Inflight,
    held: BinaryHeap<Held>,
    filling: Filling,
    /// Whether what was read holds a secret that has to be wiped.
    pub(crate) secret_read: bool,
    said_preface: bool,
    last_id: u64,
    /// Largest output that a Reply can carry to this client, bytes.
    output_bytes_max: u64,
    client_frame_bytes_max: u32,
    totals: Totals,
}

impl Session {
    pub(crate) fn new(world: Arc<IoWorld>, number: u64, client_key: ClientKey) -> Self {
        Self {
            world,
            number,
            client_key,
            stage: Stage::Hello,
            outbox: Outbox::default(),
            replies: ReplyBox::default(),
            inflight: Inflight::default(),
            held: BinaryHeap::new(),
            filling: Filling::default(),
            secret_read: false,
            said_preface: false,
            last_id: 0,
            output_bytes_max: 0,
            client_frame_bytes_max: FRAME_BYTES_MIN,
            totals: Totals::default(),
        }
    }

    pub(crate) fn is_greeting(&self) -> bool {
        self.stage == Stage::Hello
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.stage == Stage::Leaving
    }

    /// Whether every request that was read is answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.inflight.is_empty()
    }

    /// When the next held request is to be released.
    pub(crate) fn next_release(&self) -> Option<Instant> {
        self.held.peek().map(|held| held.until)
    }

    // ---- reading -------------------------------------------------------------------------------------------------

    /// Any frame but Work. `body` is there for Ping only.
    pub(crate) fn frame(&mut self, kind: Kind, prefix: Prefix, header: &[u8], body: &[u8]) {
        if self.stage == Stage::Hello {
            match kind {
                Kind::Hello => self.hello(header),
                _ => self.violation(&format!("the first frame is a {}, not a Hello", kind.name())),
            }
            return;
        }
        let limit = self.frame_bytes_max();
        if prefix.frame_bytes() > u64::from(limit) {
            let found = prefix.frame_bytes();
            return self.violation(&format!(
                "a {} frame of {found} bytes is larger than frame_bytes_max, {limit}",
                kind.name()
            ));
        }
        match kind {
            Kind::Ping => self.no_fields(kind, header, |session| {
                session.outbox.push_frame(Kind::Pong, prefix.id, &NoFields::default(), body);
            }),
            Kind::Cancel => self.no_fields(kind, header, |session| session.cancel(prefix.id)),
            // Of ids that are not open, as all are without streaming.
            Kind::Data | Kind::Pong => self.no_fields(kind, header, |_| {}),
            Kind::Credit => match windlass_protocol::Credit::decode(header) {
                Ok(credit) => self.understood(kind, &credit.extensions),
                Err(error) => self.malformed(&error),
            },
            Kind::Query => self.query(prefix.id, header),
            Kind::Close => self.close(header),
            Kind::Hello => self.violation("a second Hello"),
            Kind::Work
            | Kind::Welcome
            | Kind::Reply
            | Kind::Failure
            | Kind::Info
            | Kind::GoAway
            | Kind::Closed => self.violation(&format!("a {} frame is the daemon's to send", kind.name())),
        }
    }

    fn hello(&mut self, header: &[u8]) {
        let hello = match Hello::decode(header) {
            Ok(hello) => hello,
            Err(error) => return self.malformed(&error),
        };
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            let message = format!(
                "this daemon speaks version {VERSION} alone; the client offers {} to {}",
                hello.version_min, hello.version_max
            );
            return self.leave(FailureCode::UNSUPPORTED_VERSION, &message);
        }
        if hello.frame_bytes_max < FRAME_BYTES_MIN {
            let found = hello.frame_bytes_max;
            return self
                .violation(&format!("frame_bytes_max of {found} is below the least, {FRAME_BYTES_MIN}"));
        }
        if let Some(number) = hello.extensions.must_understand() {
            return self.not_understood(Kind::Hello, number);
        }
        let settings = self.world.settings.load();
        self.client_frame_bytes_max = hello.frame_bytes_max;
        self.output_bytes_max = settings
            .limits
            .body_bytes_max
            .min(u64::from(hello.frame_bytes_max) - PREFIX_BYTES as u64 - REPLY_HEAD_BYTES);
        tracing::debug!(
            connection = self.number,
            client = %hello.client.escape_debug(),
            "connection opened"
        );
        let welcome = Welcome {
            version: VERSION,
            features: 0,
            frame_bytes_max: self.frame_bytes_max(),
            window: 0,
            body_bytes_max: settings.limits.body_bytes_max,
            in_flight_max: settings.limits.in_flight_per_connection.get(),
            server: &self.world.server,
            extensions: Extensions::default(),
        };
        self.outbox.push_raw(&PREFACE);
        self.outbox.push_frame(Kind::Welcome, 0, &welcome, &[]);
        self.said_preface = true;
        self.stage = Stage::Open;
    }

    /// Largest frame that is read: a body in one piece, with a full head.
    fn frame_bytes_max(&self) -> u32 {
        let body = self.world.settings.load().limits.body_bytes_max;
        let head = PREFIX_BYTES as u64 + u64::from(windlass_protocol::limits::HEADER_BYTES_MAX);
        u32::try_from(body + head).unwrap_or(u32::MAX)
    }

    /// The head of a request. Decides from it alone.
    pub(crate) fn work(
        &mut self,
        prefix: Prefix,
        header: &[u8],
        body_is_here: bool,
        received_at: Instant,
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
            Stage::Leaving => return Verdict::Skip,
        }
        let work = match Work::decode(header) {
            Ok(work) => work,
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
        if let Some(total) = work.body_total.filter(|total| !more && *total != u64::from(prefix.body_len)) {
            let found = prefix.body_len;
            self.violation(&format!(
                "body_total says {total} bytes, the frame has {found} and no more follow"
            ));
            return Verdict::Skip;
        }
        self.last_id = prefix.id;
        self.totals.requests += 1;
        self.totals.bytes_in += u64::from(prefix.body_len);
        add(&self.world.metrics.bytes_in, u64::from(prefix.body_len));
        match self.admit(prefix, &work, body_is_here, received_at) {
            Ok(waiting) => {
                self.inflight.insert(prefix.id);
                Verdict::Read(Box::new(waiting))
            }
            Err(failure) => {
                self.answer_failure(prefix.id, &failure);
                if !body_is_here && u64::from(prefix.body_len) > SKIP_BYTES_MAX {
                    self.go_away(failure.code);
                }
                Verdict::Skip
            }
        }
    }

    /// Grants or refuses: the order of the checks is the order in which a client can do something about them.
    fn admit(
        &self,
        prefix: Prefix,
        work: &Work<'_>,
        body_is_here: bool,
        received_at: Instant,
    ) -> Result<Waiting, Failure> {
        let rejected = |code, message: String| Err(Failure::rejected(code, message));
        if self.stage == Stage::Draining {
            return Err(Failure::draining());
        }
        if let Some(number) = work.extensions.must_understand() {
            let message = format!("extension {number} must be understood, and this daemon does not");
            return rejected(FailureCode::UNSUPPORTED, message);
        }
        if prefix.flags & FLAG_MORE != 0 {
            let message =
                "a body in several parts needs feature bit 0, which this daemon does not have".to_owned();
            return rejected(FailureCode::UNSUPPORTED, message);
        }
        let settings = self.world.settings.load_full();
        let body_len = u64::from(prefix.body_len);
        if body_len > settings.limits.body_bytes_max {
            let limit = settings.limits.body_bytes_max;
            let message = format!("a body of {body_len} bytes is larger than limits.body, {limit} bytes");
            return rejected(FailureCode::TOO_LARGE, message);
        }
        let in_flight_max = settings.limits.in_flight_per_connection.get();
        if self.inflight.len() >= in_flight_max as usize {
            let message =
                format!("{in_flight_max} requests are in flight on this connection, the most allowed");
            return Err(Failure::refused(FailureCode::OVERLOADED, message));
        }
        let Some((entry, place)) = settings.catalogue.find(work.operation) else {
            let known: Vec<_> = settings.catalogue.entries().iter().map(|entry| entry.name()).collect();
            return Err(Failure::unknown_operation(work.operation, &known.join(", ")));
        };
        let arguments = Arguments::check(entry.operation.declaration(), &work.parameters)?;
        let estimate = entry.operation.estimate(&arguments, body_len)?;
        let work_bytes_max = self.world.workers.bridge.budget.work_bytes_max();
        if estimate.work_bytes > work_bytes_max {
            let asked = estimate.work_bytes;
            let message =
                format!("it needs {asked} bytes of working memory, more than the {work_bytes_max} there are");
            return rejected(FailureCode::TOO_LARGE, message);
        }

        let allowed = work.deadline.map_or(settings.timeouts.deadline_default, Duration::from_millis);
        let allowed = allowed.min(settings.timeouts.deadline_max);
        let hold = entry.operation.hold(&arguments);
        let least = estimate.cpu + hold.unwrap_or_default();
        if allowed.is_zero() || least > allowed {
            let message = format!(
                "it takes some {} ms, more than the {} ms until its deadline",
                least.as_millis(),
                allowed.as_millis()
            );
            return Err(Failure::refused(FailureCode::DEADLINE_EXCEEDED, message));
        }

        let admission = &self.world.workers.bridge.admission;
        let slots_max = self.world.slots_max(&settings);
        if !body_is_here && admission.slots() >= slots_max {
            return Err(crate::dispatch::Refusal::Slots { limit: slots_max }.into());
        }
        let bytes = body_len.saturating_add(estimate.output_bytes);
        let held = if body_is_here {
            admission.hold(bytes, settings.queue.memory_bytes_max)?
        } else {
            admission.hold_arriving(bytes, body_len, settings.queue.memory_bytes_max)?
        };
        let class = if work.priority == PRIORITY_INTERACTIVE { Class::Interactive } else { Class::Batch };
        let request = Admitted {
            id: prefix.id,
            entry: place,
            arguments,
            input: Input::from(&[][..]),
            deadline: received_at + allowed,
            estimate,
            held,
        };
        Ok(Waiting { settings, class, request, hold })
    }

    /// The memory for the body of a request that is not here yet.
    pub(crate) fn body_for(&mut self, waiting: &Waiting) -> Body {
        match waiting.secrecy() {
            Secrecy::Open => Body::Open(Vec::new()),
            Secrecy::Secret => {
                self.secret_read = true;
                Body::Secret(Zeroizing::default())
            }
        }
    }

    /// A body that lies whole in what was read.
    pub(crate) fn body(&mut self, waiting: Box<Waiting>, body: &[u8], now: Instant) {
        let input = match waiting.secrecy() {
            Secrecy::Open => Input::Shared(Bytes::copy_from_slice(body)),
            Secrecy::Secret => {
                self.secret_read = true;
                Input::Secret(Zeroizing::new(body.to_vec()))
            }
        };
        self.complete(waiting, input, now);
    }

    /// A body that came in several reads.
    pub(crate) fn arrived(&mut self, mut waiting: Box<Waiting>, body: Body, now: Instant) {
        waiting.request.held.arrived();
        let input = match body {
            Body::Open(bytes) => Input::Shared(bytes.into()),
            Body::Secret(bytes) => Input::Secret(bytes),
        };
        self.complete(waiting, input, now);
    }

    fn complete(&mut self, mut waiting: Box<Waiting>, input: Input, now: Instant) {
        waiting.request.input = input;
        match waiting.hold.take() {
            Some(hold) => {
                let until = now + hold;
                self.held.push(Held { until, waiting });
            }
            None => self.enqueue(*waiting, now),
        }
    }

    /// Gives those whose hold is over to the workers.
    pub(crate) fn release(&mut self, now: Instant) {
        while self.held.peek().is_some_and(|held| held.until <= now) {
            if let Some(held) = self.held.pop() {
                self.enqueue(*held.waiting, now);
            }
        }
        self.submit();
    }

    fn enqueue(&mut self, waiting: Waiting, now: Instant) {
        let Waiting { settings, class, request, .. } = waiting;
        let slot = match self.world.workers.bridge.admission.enter(self.world.slots_max(&settings)) {
            Ok(slot) => slot,
            Err(refusal) => {
                let id = request.id;
                drop(request);
                return self.answer_if_open(id, &refusal.into());
            }
        };
        let fits = self.filling.batch.as_ref().is_some_and(|(batch, _)| {
            batch.class == class
                && Arc::ptr_eq(&batch.settings, &settings)
                && batch.takes(&request.estimate, &settings.catalogue.entries()[request.entry])
        });
        if !fits {
            self.submit();
            self.filling.batch = Some(Batch::new(settings, self.client_key, class, self.output_bytes_max));
        }
        if let Some((batch, _)) = &mut self.filling.batch {
            let id = request.id;
            let stop = batch.push(request, slot, now);
            self.inflight.crossed(id, stop);
        }
    }

    /// Sends what was read over the bridge.
    pub(crate) fn submit(&mut self) {
        if let Some((batch, replies)) = self.filling.batch.take() {
            self.replies.expect(replies);
            self.world.workers.submit(batch);
        }
    }

    fn cancel(&mut self, id: u64) {
        match self.inflight.get(id) {
            // The worker that takes it, or runs it, answers.
            Some(Place::There(stop)) => stop.raise(),
            Some(Place::Here) => {
                self.held.retain(|held| held.waiting.request.id != id);
                self.answer_if_open(id, &Failure::abandoned());
            }
            None => {}
        }
    }

    fn query(&mut self, id: u64, header: &[u8]) {
        let query = match Query::decode(header) {
            Ok(query) => query,
            Err(error) => return self.malformed(&error),
        };
        if self.stage == Stage::Closing {
            return self.violation("a Query after Close");
        }
        let unsupported = |message: String| Failure::rejected(FailureCode::UNSUPPORTED, message);
        if let Some(number) = query.extensions.must_understand() {
            let message = format!("extension {number} must be understood, and this daemon does not");
            return self.write_failure(id, &unsupported(message));
        }
        let json = match query.subject {
            SUBJECT_CATALOGUE => catalogue_json(&self.world),
            SUBJECT_STATUS => status_json(&self.world),
            subject => {
                let message = format!("no subject {subject}; there are 1, the catalogue, and 2, the status");
                return self.write_failure(id, &unsupported(message));
            }
        };
        if json.len() as u64 > u64::from(self.client_frame_bytes_max) - PREFIX_BYTES as u64 {
            let message =
                format!("the answer of {} bytes is larger than the client's frame_bytes_max", json.len());
            return self.write_failure(id, &Failure::rejected(FailureCode::TOO_LARGE, message));
        }
        self.outbox.push_frame(Kind::Info, id, &NoFields::default(), &json);
    }

    fn close(&mut self, header: &[u8]) {
        match Close::decode(header) {
            Ok(_) if self.stage == Stage::Closing => self.violation("a second Close"),
            Ok(close) => match close.extensions.must_understand() {
                Some(number) => self.not_understood(Kind::Close, number),
                None if self.stage == Stage::Leaving => {}
                None => self.stage = Stage::Closing,
            },
            Err(error) => self.malformed(&error),
        }
    }

    fn no_fields(&mut self, kind: Kind, header: &[u8], then: impl FnOnce(&mut Self)) {
        match NoFields::decode(kind, header) {
            Ok(fields) => match fields.extensions.must_understand() {
                Some(number) => self.not_understood(kind, number),
                None => then(self),
            },
            Err(error) => self.malformed(&error),
        }
    }

    fn understood(&mut self, kind: Kind, extensions: &Extensions<'_>) {
        if let Some(number) = extensions.must_understand() {
            self.not_understood(kind, number);
        }
    }

    // ---- leaving -------------------------------------------------------------------------------------------------

    /// The end of the peer's bytes. After Close, everything is still finished; otherwise nobody waits any more, and
    /// whoever half-closed and reads is told so.
    pub(crate) fn end_of_input(&mut self) {
        match self.stage {
            Stage::Closing => {}
            Stage::Hello => self.stage = Stage::Leaving,
            Stage::Open | Stage::Draining | Stage::Leaving => {
                self.abandon_all(&Failure::ended(
                    FailureCode::CANCELLED,
                    "the connection was closed by the client",
                ));
                self.go_away_for(0);
            }
        }
    }

    /// Bytes that are not the protocol.
    pub(crate) fn misread(&mut self, misread: &Misread) {
        match misread {
            Misread::NotThePreface(bytes) if looks_like_http(bytes) => {
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
                self.stage = Stage::Leaving;
            }
            Misread::NotThePreface(_) => self.violation("the first 8 bytes are not 'WINDLASS'"),
            Misread::Violation(violation) => self.violation(&violation.to_string()),
        }
    }

    fn malformed(&mut self, error: &DecodeError) {
        self.violation(&error.to_string());
    }

    fn not_understood(&mut self, kind: Kind, number: u16) {
        let message =
            format!("extension {number} of {} must be understood, and this daemon does not", kind.name());
        self.leave(FailureCode::UNSUPPORTED, &message);
    }

    pub(crate) fn violation(&mut self, message: &str) {
        self.leave(FailureCode::PROTOCOL_ERROR, message);
    }

    /// Says why the connection ends; what was accepted is still finished.
    pub(crate) fn leave(&mut self, code: FailureCode, message: &str) {
        if self.stage == Stage::Leaving {
            return;
        }
        add(&self.world.metrics.protocol_errors, 1);
        tracing::debug!(connection = self.number, code = %code, message, "connection ends");
        self.say_preface();
        let retry_safe = code == FailureCode::DRAINING;
        let failure = Failure { retry_safe, ..Failure::rejected(code, message.to_owned()) };
        self.write_failure(0, &failure);
        self.go_away(code);
    }

    fn say_preface(&mut self) {
        if !self.said_preface {
            self.outbox.push_raw(&PREFACE);
            self.said_preface = true;
        }
    }

    fn go_away(&mut self, code: FailureCode) {
        self.go_away_for(code.number());
    }

    /// The last GoAway; nothing is read after it. Reason 0 is a client that is done or has been idle for too long.
    pub(crate) fn go_away_for(&mut self, reason: u16) {
        if self.stage == Stage::Leaving {
            return;
        }
        self.say_preface();
        let go_away = GoAway { last_id: self.last_id, reason, extensions: Extensions::default() };
        self.outbox.push_frame(Kind::GoAway, 0, &go_away, &[]);
        self.stage = Stage::Leaving;
    }

    /// The drain has begun and what had arrived is read: says so, and accepts nothing more.
    pub(crate) fn drain(&mut self) {
        match self.stage {
            Stage::Hello => self.leave(FailureCode::DRAINING, "the daemon is shutting down"),
            Stage::Open => {
                let reason = FailureCode::DRAINING.number();
                let go_away = GoAway { last_id: u64::MAX, reason, extensions: Extensions::default() };
                self.outbox.push_frame(Kind::GoAway, 0, &go_away, &[]);
                self.stage = Stage::Draining;
            }
            Stage::Closing | Stage::Draining | Stage::Leaving => {}
        }
    }

    /// Says the last words once every answer is given.
    pub(crate) fn finish(&mut self) {
        if !self.inflight.is_empty() {
            return;
        }
        match self.stage {
            Stage::Closing => {
                let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
                let closed = Closed {
                    requests: self.totals.requests,
                    failures: self.totals.failures,
                    bytes_in: self.totals.bytes_in,
                    bytes_out: self.totals.bytes_out,
                    queue_time: micros(self.totals.queue_time),
                    service_time: micros(self.totals.service_time),
                    extensions: Extensions::default(),
                };
                self.outbox.push_frame(Kind::Closed, 0, &closed, &[]);
                self.go_away_for(0);
            }
            Stage::Draining => self.go_away(FailureCode::DRAINING),
            Stage::Hello | Stage::Open | Stage::Leaving => {}
        }
    }

    /// The drain's time is over: what is here is answered; what is with the workers is theirs to answer.
    pub(crate) fn cancel_waiting(&mut self, arriving: Option<Box<Waiting>>) {
        let failure = Failure { retry_safe: true, ..Failure::drain_over() };
        let held = std::mem::take(&mut self.held).into_iter().map(|held| held.waiting);
        for waiting in held.chain(arriving) {
            self.answer_if_open(waiting.request.id, &failure);
        }
    }

    /// A body that will not come whole is answered for.
    pub(crate) fn give_up(&mut self, arriving: Option<Box<Waiting>>) {
        if let Some(waiting) = arriving {
            let failure = Failure::refused(FailureCode::CANCELLED, "the rest of the body did not come");
            self.answer_if_open(waiting.request.id, &failure);
        }
    }

    /// Answers for everything, wherever it is.
    pub(crate) fn abandon_all(&mut self, failure: &Failure) {
        self.held.clear();
        for id in self.inflight.take_all() {
            self.answer_failure(id, failure);
        }
    }

    pub(crate) fn drain_over(&mut self) {
        self.abandon_all(&Failure::drain_over());
        self.go_away(FailureCode::DRAINING);
    }

    // ---- answering -----------------------------------------------------------------------------------------------

    /// Writes what a worker says, unless the request was answered already.
    pub(crate) fn answers(&mut self, answers: Vec<Answer>) {
        let load = self.world.load();
        for answer in answers {
            if !self.inflight.take(answer.id) {
                continue;
            }
            match answer.outcome {
                Ok(output) => {
                    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
                    self.totals.queue_time += answer.queue_time;
                    self.totals.service_time += answer.service_time;
                    self.totals.bytes_out += output.0.len() as u64;
                    add(&self.world.metrics.bytes_out, output.0.len() as u64);
                    let reply = Reply {
                        queue_time: micros(answer.queue_time),
                        service_time: micros(answer.service_time),
                        load,
                        body_total: None,
                        extensions: Extensions::default(),
                    };
                    self.outbox.push_answer(Kind::Reply, answer.id, &reply, output.0, answer.held);
                }
                Err(failure) => {
                    self.totals.failures += 1;
                    self.write_failure(answer.id, &failure);
                }
            }
        }
    }

    fn answer_if_open(&mut self, id: u64, failure: &Failure) {
        if self.inflight.take(id) {
            self.answer_failure(id, failure);
        }
    }

    /// A failure that no worker has counted.
    fn answer_failure(&mut self, id: u64, failure: &Failure) {
        self.totals.failures += 1;
        self.world.metrics.refused(failure.code);
        self.write_failure(id, failure);
    }

    fn write_failure(&mut self, id: u64, failure: &Failure) {
        let header = windlass_protocol::Failure {
            code: failure.code.number(),
            message: windlass_protocol::Failure::bounded(&failure.message),
            retry_after: failure.retry_after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            retry_safe: failure.retry_safe,
            load: self.world.load(),
            extensions: Extensions::default(),
        };
        self.outbox.push_frame(Kind::Failure, id, &header, &[]);
    }
}

impl Waiting {
    fn secrecy(&self) -> Secrecy {
        self.settings.catalogue.entries()[self.request.entry].operation.declaration().secrecy
    }
}

fn looks_like_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"TRACE ", b"CONNECT "];
    METHODS.iter().any(|method| {
        let known = bytes.len().min(method.len());
        known > 0 && bytes[..known] == method[..known]
    }) || bytes.starts_with(b"PRI * HT")
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
