//! The bridge by itself: no sockets, no pool, no clock that matters.

#[cfg(all(test, not(windlass_loom)))]
mod foresight;
#[cfg(all(test, not(windlass_loom)))]
mod memory;
#[cfg(all(test, not(windlass_loom)))]
mod model;
#[cfg(all(test, windlass_loom))]
mod orders;
#[cfg(all(test, not(windlass_loom)))]
mod rules;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::job::{Admitted, Batch, Class};
use super::{Answer, Bridge, Client, ClientKey, Clients, Cost, PendingReplies, StopFlag};
use crate::operation::{
    Arguments, Catalogue, Coalescing, Declaration, Entry, Estimate, Input, JobContext, Operation,
    OperationError, OperationIndex, Output, Resultant, Secrecy,
};
use crate::settings::{DrainSettings, FairBy, LimitSettings, QueueSettings, Settings, TimeoutSettings};

/// An operation that is never run here.
struct Named(Declaration);

impl Named {
    fn entry(name: &'static str, index: u16, concurrency_max: Option<NonZeroUsize>) -> Entry {
        let declaration = Declaration {
            name,
            about: "stands for work",
            parameters: Vec::new(),
            limits: Vec::new(),
            result: Resultant::Binary,
            secrecy: Secrecy::Open,
            pure: true,
            stretch_max: Duration::ZERO,
        };
        Entry {
            index: OperationIndex(index),
            operation: Arc::new(Self(declaration)),
            concurrency_max,
            coalescing: Coalescing::Off,
        }
    }
}

impl Operation for Named {
    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn estimate(&self, _: &Arguments, _: u64) -> Result<Estimate, OperationError> {
        Ok(COSTLESS)
    }

    fn run(
        &self,
        _: &Arguments,
        input: &mut Input,
        _: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        Ok(Output(input.take().into_bytes()))
    }
}

const COSTLESS: Estimate = Estimate { cpu: Duration::ZERO, output_bytes: 0, work_bytes: 0 };

/// Place of the operation of which any number may run, and of the one of which only one may.
const FREE: usize = 0;
#[cfg(all(test, not(windlass_loom)))]
const SINGLE: usize = 1;

pub(crate) fn settings() -> Arc<Settings> {
    let entries = vec![Named::entry("free", 0, None), Named::entry("single", 1, NonZeroUsize::new(1))];
    let second = Duration::from_secs(1);
    Arc::new(Settings {
        catalogue: Catalogue::new(entries).unwrap(),
        queue: QueueSettings {
            capacity: NonZeroUsize::new(64).unwrap(),
            memory_bytes_max: 1 << 20,
            wait_max: second,
            batch_share: NonZeroU32::new(8).unwrap(),
            fair_by: FairBy::Connection,
        },
        limits: LimitSettings {
            connections_max: 8,
            in_flight_per_connection: NonZeroU32::new(64).unwrap(),
            body_bytes_max: 1 << 16,
            unwritten_bytes_max: 1 << 16,
        },
        timeouts: TimeoutSettings {
            handshake: second,
            idle: second,
            read: second,
            write: second,
            deadline_default: second,
            deadline_max: second,
        },
        drain: DrainSettings { quiet: second, timeout: second, cancel_grace: second },
    })
}

/// What a job of a test is like.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) id: u64,
    pub(super) class: Class,
    pub(super) entry: usize,
    pub(super) estimate: Estimate,
    pub(super) client: u32,
    pub(super) deadline: Duration,
}

impl Wanted {
    pub(super) const fn interactive(id: u64) -> Self {
        Self {
            id,
            class: Class::Interactive,
            entry: FREE,
            estimate: COSTLESS,
            client: 1,
            deadline: Duration::from_secs(60),
        }
    }
}

fn admitted(bridge: &Bridge, wanted: Wanted) -> Admitted {
    Admitted {
        id: wanted.id,
        entry: wanted.entry,
        arguments: Arguments::default(),
        input: Input::from(&b"input"[..]),
        deadline: Instant::now() + wanted.deadline,
        cost: Cost { estimate: wanted.estimate, cpu: wanted.estimate.cpu, is_known: false },
        held: bridge.admission.hold(5, 1 << 20).unwrap(),
    }
}

thread_local! {
    static CLIENTS: Clients = Clients::default();
}

/// The client of this number, one and the same while any of its work is here.
pub(super) fn client(bridge: &Bridge, number: u32) -> Arc<Client> {
    CLIENTS.with(|clients| clients.find(ClientKey::Uid(number), &bridge.backlog))
}

/// A batch of these jobs, all of the class and the client of the first.
pub(super) fn batch(
    bridge: &Bridge,
    settings: &Arc<Settings>,
    jobs: &[Wanted],
) -> (Batch, PendingReplies, Vec<StopFlag>) {
    let (batch, replies) = empty_batch(bridge, settings, jobs[0]);
    filled(bridge, batch, replies, jobs)
}

fn empty_batch(bridge: &Bridge, settings: &Arc<Settings>, like: Wanted) -> (Batch, PendingReplies) {
    Batch::new(Arc::clone(settings), client(bridge, like.client), like.class, 1 << 16)
}

fn filled(
    bridge: &Bridge,
    mut batch: Batch,
    replies: PendingReplies,
    jobs: &[Wanted],
) -> (Batch, PendingReplies, Vec<StopFlag>) {
    let stops = jobs
        .iter()
        .map(|wanted| {
            batch.take_slot(&bridge.admission, 64).unwrap();
            batch.push(admitted(bridge, *wanted), Instant::now())
        })
        .collect();
    (batch, replies, stops)
}

/// Answers every job of a batch with its input, as a worker would that is as quick as it was estimated to be.
pub(super) fn answer_all(mut batch: Batch) -> Duration {
    let used = batch.cpu();
    while let Some(job) = batch.next() {
        batch.answer(done(job));
    }
    used
}

fn done(job: super::Job) -> Answer {
    let _may_start = job.stop.start();
    Answer {
        id: job.id,
        outcome: Ok(Output(job.input.into_bytes())),
        queue_time: Duration::ZERO,
        service_time: Duration::ZERO,
        held: job.held,
    }
}
