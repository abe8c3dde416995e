//! Requests: who is admitted, from the head alone, and what becomes of the body.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use windlass_protocol::limits::SKIP_BYTES_MAX;
use windlass_protocol::{FLAG_MORE, FailureCode, Header, PRIORITY_INTERACTIVE, Prefix, Work};
use zeroize::Zeroizing;

use super::{Session, Stage};
use crate::dispatch::{Admitted, Batch, Class, Failure, Refusal};
use crate::io::inbound::Body;
use crate::operation::{Arguments, Input, Secrecy};
use crate::settings::Settings;
use crate::telemetry::{Asked, add};

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

/// A held request, soonest first.
pub(super) struct Held {
    pub(super) until: Instant,
    pub(super) waiting: Box<Waiting>,
}

impl Session {
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
            Stage::Leaving(_) | Stage::Gone => return Verdict::Skip,
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
                let asked = waiting.asked();
                self.world.metrics.request_read(asked);
                self.inflight.insert(prefix.id, asked);
                Verdict::Read(Box::new(waiting))
            }
            Err(failure) => {
                let asked = self.asked(work.operation);
                self.world.metrics.request_read(asked);
                self.answer_failure(prefix.id, asked, &failure);
                if !body_is_here && u64::from(prefix.body_len) > SKIP_BYTES_MAX {
                    self.leave_quietly(failure.code.number());
                }
                Verdict::Skip
            }
        }
    }

    /// What a refused request asked for, as it is counted.
    fn asked(&self, operation: &str) -> Asked {
        let settings = self.world.settings.load();
        settings.catalogue.find(operation).map_or(Asked::UNKNOWN, |(entry, _)| entry.index.into())
    }

    /// Grants or refuses: the order of the checks is the order in which a client can do something about them.
    fn admit(
        &self,
        prefix: Prefix,
        work: &Work<'_>,
        body_is_here: bool,
        received_at: Instant,
    ) -> Result<Waiting, Failure> {
        let refused = |code, message: String| Err(Failure::refused(code, message));
        if self.stage == Stage::Draining {
            return Err(Failure::draining());
        }
        if let Some(number) = work.extensions.must_understand() {
            let message = format!("extension {number} must be understood, and this daemon does not");
            return refused(FailureCode::UNSUPPORTED, message);
        }
        if prefix.flags & FLAG_MORE != 0 {
            let message =
                "a body in several parts needs feature bit 0, which this daemon does not have".to_owned();
            return refused(FailureCode::UNSUPPORTED, message);
        }
        let settings = self.world.settings.load_full();
        let body_len = u64::from(prefix.body_len);
        if body_len > settings.limits.body_bytes_max {
            let limit = settings.limits.body_bytes_max;
            let message = format!("a body of {body_len} bytes is larger than limits.body, {limit} bytes");
            return refused(FailureCode::TOO_LARGE, message);
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
        let estimate = entry
            .operation
            .estimate(&arguments, body_len)
            .map_err(|error| Failure { retry_safe: true, ..error.into() })?;
        let work_bytes_max = self.world.workers.bridge.budget.work_bytes_max();
        if estimate.work_bytes > work_bytes_max {
            let asked = estimate.work_bytes;
            let message =
                format!("it needs {asked} bytes of working memory, more than the {work_bytes_max} there are");
            return refused(FailureCode::TOO_LARGE, message);
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
            return Err(Refusal::Slots { limit: slots_max }.into());
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
        let fits = self.filling.as_ref().is_some_and(|(batch, _)| {
            batch.class == class
                && Arc::ptr_eq(&batch.settings, &settings)
                && batch.takes(&request.estimate, &settings.catalogue.entries()[request.entry])
        });
        if !fits {
            self.submit();
            let output_bytes_max = self.output_bytes_max.min(settings.limits.body_bytes_max);
            self.filling = Some(Batch::new(settings, self.client_key, class, output_bytes_max));
        }
        if let Some((batch, _)) = &mut self.filling {
            let id = request.id;
            let stop = batch.push(request, slot, now);
            self.inflight.crossed(id, stop);
        }
    }

    /// Sends what was read over the bridge.
    pub(crate) fn submit(&mut self) {
        if let Some((batch, replies)) = self.filling.take() {
            self.replies.expect(replies);
            self.world.workers.submit(batch);
        }
    }
}

impl Waiting {
    pub(super) fn id(&self) -> u64 {
        self.request.id
    }

    fn asked(&self) -> Asked {
        self.settings.catalogue.entries()[self.request.entry].index.into()
    }

    fn secrecy(&self) -> Secrecy {
        self.settings.catalogue.entries()[self.request.entry].operation.declaration().secrecy
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
