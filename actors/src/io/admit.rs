//! Who is admitted, from the head of a request alone, whichever door it came through.

use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass_protocol::FailureCode;

use super::IoWorld;
use super::inflight::Crossed;
use crate::dispatch::{Admitted, Class, Client, Cost, Failure, Prospect, Refusal};
use crate::operation::{Arguments, Declaration, Entry, Estimate, Input, Secrecy};
use crate::settings::Settings;
use crate::telemetry::Asked;

/// What the head of a request says of its work. It says it once for all that ask for the same under one snapshot.
#[derive(Clone)]
pub(crate) struct Task {
    /// Place in the catalogue.
    pub(crate) entry: usize,
    pub(crate) arguments: Arguments,
    pub(crate) cost: Cost,
    /// How long it waits on the I/O side once it is complete.
    pub(crate) hold: Option<Duration>,
}

/// Who asks, and when.
pub(crate) struct Ask<'a> {
    /// The request's name on its connection.
    pub(crate) id: u64,
    /// From `received_at` on; `None` takes the default.
    pub(crate) deadline: Option<Duration>,
    pub(crate) client: &'a Client,
    pub(crate) class: Class,
    pub(crate) body: Arrival,
    pub(crate) received_at: Instant,
    /// Requests of the same connection that have no answer yet.
    pub(crate) in_flight: usize,
}

/// Where the body of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Read already, so many bytes.
    Here(u64),
    /// On its way: so many bytes, or at least so many.
    Coming(u64),
}

impl Arrival {
    fn bytes(self) -> u64 {
        match self {
            Self::Here(bytes) | Self::Coming(bytes) => bytes,
        }
    }
}

/// A request that is admitted.
pub(crate) struct Granted {
    pub(super) class: Class,
    pub(super) request: Admitted,
    /// How long it waits on the I/O side once it is complete.
    pub(super) hold: Option<Duration>,
}

/// A request that is admitted but not complete, or held. Owns what it holds.
pub(crate) struct Waiting {
    /// What it was admitted under.
    pub(super) settings: Arc<Settings>,
    pub(super) class: Class,
    pub(super) request: Admitted,
    /// How long it waits on the I/O side once it is complete.
    pub(super) hold: Option<Duration>,
}

impl IoWorld {
    /// What a refused request asked for, as it is counted.
    pub(crate) fn asked(&self, operation: &str) -> Asked {
        let settings = self.settings.load();
        settings.catalogue.find(operation).map_or(Asked::UNKNOWN, |(entry, _)| entry.index.into())
    }

    /// What is asked for, or why it cannot be had, now or ever.
    pub(crate) fn task(
        &self,
        settings: &Settings,
        operation: &str,
        parameters: &[(&str, &str)],
        body_bytes: u64,
    ) -> Result<Task, Failure> {
        fits_body(body_bytes, settings)?;
        let Some((entry, place)) = settings.catalogue.find(operation) else {
            let known: Vec<_> = settings.catalogue.entries().iter().map(|entry| entry.name()).collect();
            return Err(Failure::unknown_operation(operation, &known.join(", ")));
        };
        let arguments = Arguments::check(entry.operation.declaration(), parameters)?;
        let cost = self.cost(entry, &arguments, body_bytes)?;
        let hold = entry.operation.hold(&arguments);
        Ok(Task { entry: place, arguments, cost, hold })
    }

    /// Corrects what a task that was looked up before costs, by what such requests have cost meanwhile.
    pub(crate) fn price(&self, settings: &Settings, task: &mut Task) {
        let entry = &settings.catalogue.entries()[task.entry];
        task.cost = self.workers.bridge.costs.cost(entry.index, task.cost.estimate);
    }

    /// Grants or refuses: the order of the checks is the order in which a client can do something about them.
    pub(crate) fn admit(&self, settings: &Settings, task: Task, ask: &Ask<'_>) -> Result<Granted, Failure> {
        let body_bytes = ask.body.bytes();
        let Task { entry: place, arguments, cost, hold } = task;
        let entry = &settings.catalogue.entries()[place];
        let allowed =
            ask.deadline.unwrap_or(settings.timeouts.deadline_default).min(settings.timeouts.deadline_max);
        let (whose, until) = ((ask.client, ask.class), (allowed, ask.received_at));
        let in_flight_max = settings.limits.in_flight_per_connection.get();
        if ask.in_flight >= in_flight_max as usize {
            let message =
                format!("{in_flight_max} requests are in flight on this connection, the most allowed");
            let prospect = self.prospect(settings, entry, &cost, whose, until);
            let one_ends_in =
                self.workers.bridge.ends_in(&prospect, self.workers.free_in(ask.received_at), ask.in_flight);
            return Err(Failure::refused(FailureCode::OVERLOADED, message).retry_after(one_ends_in));
        }
        in_time(&cost, hold, allowed)?;

        let admission = &self.workers.bridge.admission;
        let slots_max = self.slots_max(settings);
        let bytes = held_bytes(body_bytes, &cost.estimate);
        let limit = settings.queue.memory_bytes_max;
        let held = match ask.body {
            Arrival::Here(_) => admission.hold(bytes, limit),
            Arrival::Coming(_) if admission.slots() >= slots_max => Err(Refusal::Slots { limit: slots_max }),
            Arrival::Coming(_) => admission.hold_arriving(bytes, body_bytes, limit),
        };
        let held = held.map_err(|refusal| self.refused(refusal))?;
        if hold.is_none() {
            // Whoever is held comes to the queue later than anybody can foresee now, and is asked then.
            self.soon_enough(&self.prospect(settings, entry, &cost, whose, until))?;
        }
        let request = Admitted {
            id: ask.id,
            entry: place,
            arguments,
            input: Input::from(&[][..]),
            deadline: ask.received_at + allowed,
            cost,
            held,
        };
        Ok(Granted { class: ask.class, request, hold })
    }

    /// What the operation says, corrected by what such requests have cost here.
    fn cost(&self, entry: &Entry, arguments: &Arguments, body_bytes: u64) -> Result<Cost, Failure> {
        let estimate = entry
            .operation
            .estimate(arguments, body_bytes)
            .map_err(|error| Failure { retry_safe: true, ..error.into() })?;
        self.fits_work(estimate.work_bytes)?;
        Ok(self.workers.bridge.costs.cost(entry.index, estimate))
    }

    /// A request with this cost that has so much time left at `now`.
    fn prospect<'a>(
        &self,
        settings: &'a Settings,
        entry: &Entry,
        cost: &Cost,
        (client, class): (&'a Client, Class),
        (allowed, now): (Duration, Instant),
    ) -> Prospect<'a> {
        Prospect {
            client,
            class,
            cpu: cost.cpu,
            cpu_least: cost.cpu_least(),
            restricted: self.workers.bridge.restricted(entry, cost.estimate.work_bytes),
            queue: &settings.queue,
            allowed,
            now,
        }
    }

    /// Whether a request whose body has come, or whose hold is over, may come to the queue: it is a newcomer there like
    /// any other.
    ///
    /// # Errors
    ///
    /// What a newcomer with so much time left would be refused for.
    pub(super) fn released(&self, waiting: &Waiting, client: &Client, now: Instant) -> Result<(), Failure> {
        let Waiting { settings, class, request, .. } = waiting;
        let allowed = request.deadline.saturating_duration_since(now);
        in_time(&request.cost, None, allowed)?;
        let entry = &settings.catalogue.entries()[request.entry];
        let prospect = self.prospect(settings, entry, &request.cost, (client, *class), (allowed, now));
        self.soon_enough(&prospect)
    }

    fn soon_enough(&self, prospect: &Prospect<'_>) -> Result<(), Failure> {
        self.workers.bridge.soon_enough(prospect, || self.workers.free_in(prospect.now))
    }

    /// A refusal, with the time in which as much as was asked for becomes free.
    pub(super) fn refused(&self, refusal: Refusal) -> Failure {
        let workers = &self.workers;
        let wait = workers.bridge.admission.back_in(&refusal, workers.drain_in(), Instant::now());
        // Whatever is held is answered by then.
        let most = self.settings.load().timeouts.deadline_max;
        Failure::from(refusal).retry_after(wait.min(most))
    }

    /// Why a request is given up that was admitted, with the time after which it would be again where it is only the
    /// queue that stands in the way.
    pub(super) fn given_up(&self, crossed: &Crossed, failure: Failure, now: Instant) -> Failure {
        if failure.code != FailureCode::OVERLOADED {
            return failure;
        }
        let settings = self.settings.load();
        let Some(prospect) = crossed.prospect(&settings, now) else { return failure };
        failure.retry_after(self.workers.bridge.back_in(&prospect, self.workers.free_in(now)))
    }

    fn fits_work(&self, work_bytes: u64) -> Result<(), Failure> {
        let limit = self.workers.bridge.budget.work_bytes_max();
        if work_bytes <= limit {
            return Ok(());
        }
        let message =
            format!("it needs {work_bytes} bytes of working memory, more than the {limit} there are");
        Err(Failure::refused(FailureCode::TOO_LARGE, message))
    }

    /// The same checks for a body that turned out to be of another length than the head said.
    ///
    /// # Errors
    ///
    /// Why a body of this length cannot be had.
    pub(super) fn measure(&self, waiting: &mut Waiting, body_bytes: u64) -> Result<(), Failure> {
        let Waiting { settings, request, hold, .. } = waiting;
        fits_body(body_bytes, settings)?;
        let cost = self.cost(&settings.catalogue.entries()[request.entry], &request.arguments, body_bytes)?;
        let left = request.deadline.saturating_duration_since(Instant::now());
        in_time(&cost, *hold, left)?;
        let grown = request.held.try_grow_to(held_bytes(body_bytes, &cost.estimate));
        let grown = grown.and_then(|()| request.held.try_grow_arriving_to(body_bytes));
        grown.map_err(|refusal| self.refused(refusal))?;
        request.cost = cost;
        Ok(())
    }
}

/// What a request occupies besides its bodies: itself, its parameters, its places in tables. A request with an empty
/// body is not free either.
const REQUEST_BYTES: u64 = 512;

fn held_bytes(body_bytes: u64, estimate: &Estimate) -> u64 {
    REQUEST_BYTES.saturating_add(body_bytes).saturating_add(estimate.output_bytes)
}

fn fits_body(body_bytes: u64, settings: &Settings) -> Result<(), Failure> {
    let limit = settings.limits.body_bytes_max;
    if body_bytes <= limit {
        return Ok(());
    }
    let message = format!("a body of {body_bytes} bytes is larger than limits.body, {limit} bytes");
    Err(Failure::refused(FailureCode::TOO_LARGE, message))
}

fn in_time(cost: &Cost, hold: Option<Duration>, allowed: Duration) -> Result<(), Failure> {
    let hold = hold.unwrap_or_default();
    // As it mostly is, and quickly told.
    if cost.cpu_most().saturating_add(hold) < allowed {
        return Ok(());
    }
    let least = cost.cpu_least() + hold;
    if !allowed.is_zero() && least <= allowed {
        return Ok(());
    }
    let message = format!(
        "it takes some {} ms, more than the {} ms until its deadline",
        least.as_millis(),
        allowed.as_millis()
    );
    Err(Failure::refused(FailureCode::DEADLINE_EXCEEDED, message))
}

impl Granted {
    /// What it asked for, as it is counted.
    pub(super) fn asked(&self, settings: &Settings) -> Asked {
        settings.catalogue.entries()[self.request.entry].index.into()
    }

    /// Keeps it, with the settings that it was granted under, until it is complete.
    pub(super) fn keep(self, settings: Arc<Settings>) -> Waiting {
        let Self { class, request, hold } = self;
        Waiting { settings, class, request, hold }
    }
}

impl Waiting {
    pub(super) fn deadline(&self) -> Instant {
        self.request.deadline
    }

    pub(super) fn id(&self) -> u64 {
        self.request.id
    }

    /// Gives back what was reserved beyond a body of this length, which was measured last.
    pub(super) fn shrink_to_body(&mut self, body_bytes: u64) {
        let Admitted { held, cost, .. } = &mut self.request;
        held.shrink_to(held_bytes(body_bytes, &cost.estimate));
    }

    pub(super) fn declaration(&self) -> &Declaration {
        self.settings.catalogue.entries()[self.request.entry].operation.declaration()
    }

    pub(super) fn secrecy(&self) -> Secrecy {
        self.declaration().secrecy
    }
}
