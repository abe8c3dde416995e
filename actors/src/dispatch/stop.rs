//! Whether a job is still wanted, and whether it was begun: what both worlds know of one another while it waits and runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Class;
use super::backlog::Withdrawn;
use super::client::Client;
use super::prospect::Prospect;
use crate::operation::OperationIndex;
use crate::settings::Settings;
use crate::sync::AtomicU64;

/// Says that nobody waits for a job any more, and whether it was started before that was said.
#[derive(Clone, Debug, Default)]
pub(crate) struct StopFlag {
    flags: Arc<Flags>,
    bit: u8,
    /// Estimated CPU time of the job.
    cpu: Duration,
    /// Its operation, where it may have to wait for more than a worker; then it is alone in its batch.
    restricted: Option<OperationIndex>,
}

/// The stop flags of a batch.
pub(super) struct StopFlags {
    flags: Arc<Flags>,
    n: u8,
}

/// The flags of a batch, which share one word: the lower half to stop, the upper half for what was started.
#[derive(Default)]
struct Flags {
    word: AtomicU64,
    /// Whose work it is; none for operations that run without a daemon.
    owner: Option<Owner>,
}

/// Set while the run of another batch does the work of a batch's only job. It is the bit that says of the last job of a
/// full batch that it was started: a batch of one has no such job, and in a full one all others are started by then.
const BOARDED: u64 = 1 << (u64::BITS - 1);

/// Whose work a batch is.
struct Owner {
    client: Arc<Client>,
    class: Class,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Flags({:x})", self.word.load(Ordering::Relaxed))
    }
}

impl StopFlags {
    pub(super) fn new(client: Arc<Client>, class: Class) -> Self {
        let owner = Some(Owner { client, class });
        Self { flags: Arc::new(Flags { word: AtomicU64::new(0), owner }), n: 0 }
    }

    /// Whose work the batch is. Kept with the flags, which both worlds have anyway.
    pub(super) fn client(&self) -> &Arc<Client> {
        let owner = self.flags.owner.as_ref();
        &owner.expect("the flags of a batch are made with an owner").client
    }

    /// The flag of one more job.
    pub(super) fn add(&mut self, cpu: Duration, restricted: Option<OperationIndex>) -> StopFlag {
        let flag = StopFlag { flags: Arc::clone(&self.flags), bit: self.n, cpu, restricted };
        self.n += 1;
        flag
    }
}

impl StopFlag {
    fn stop(&self) -> u64 {
        1 << self.bit
    }

    fn started(&self) -> u64 {
        1 << (u32::from(self.bit) + u32::BITS)
    }

    pub(crate) fn raise(&self) {
        let _never_started = self.raise_before_start();
    }

    pub(crate) fn is_raised(&self) -> bool {
        self.flags.word.load(Ordering::Relaxed) & self.stop() != 0
    }

    /// Raises the flag; whether the job will certainly never be started. Then its answer is the caller's to give.
    #[must_use]
    pub(crate) fn raise_before_start(&self) -> bool {
        let before = self.flags.word.fetch_or(self.stop(), Ordering::AcqRel);
        self.count_withdrawn(before);
        before & self.started() == 0
    }

    /// Raises the flag unless the job was started; whether it was raised. Then its answer is the caller's to give.
    #[must_use]
    pub(crate) fn withdraw(&self) -> bool {
        let unless_started = |word: u64| (word & self.started() == 0).then_some(word | self.stop());
        let before = self.flags.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, unless_started);
        before.inspect(|before| self.count_withdrawn(*before)).is_ok()
    }

    /// Notes that the job is started; whether it may be. One word has one order, so that this and
    /// the two above are never both granted.
    #[must_use]
    pub(crate) fn start(&self) -> bool {
        let before = self.flags.word.fetch_or(self.started(), Ordering::AcqRel);
        self.count_left(before);
        before & self.stop() == 0
    }

    /// The only job of its batch does not wait for a worker any more, because another one does its work.
    pub(crate) fn board(&self) {
        let before = self.flags.word.fetch_or(BOARDED, Ordering::AcqRel);
        self.count_left(before);
    }

    /// It waits again.
    pub(super) fn unboard(&self) {
        let before = self.flags.word.fetch_and(!BOARDED, Ordering::AcqRel);
        if before & self.stop() != 0 {
            // As if it were withdrawn now.
            self.count_withdrawn(before & !(BOARDED | self.stop()));
        }
    }

    /// Whether its work is done by the run of another job.
    pub(crate) fn is_boarded(&self) -> bool {
        self.flags.word.load(Ordering::Acquire) & (self.started() | BOARDED) == BOARDED
    }

    /// Its job, as if it asked anew and had so much time; none for operations that run without a daemon. How much
    /// memory it needs is not known here.
    pub(crate) fn prospect<'a>(
        &'a self,
        settings: &'a Settings,
        allowed: Duration,
        now: Instant,
    ) -> Option<Prospect<'a>> {
        let Owner { client, class } = self.flags.owner.as_ref()?;
        let limited = self.restricted.and_then(|operation| {
            let entry = settings.catalogue.entries().iter().find(|entry| entry.index == operation)?;
            Some((operation, entry.concurrency_max?.get()))
        });
        Some(Prospect {
            client,
            class: *class,
            cpu: self.cpu,
            cpu_least: self.cpu,
            restricted: limited,
            queue: &settings.queue,
            allowed,
            now,
        })
    }

    /// Withdrawn work that does not wait any more.
    fn count_left(&self, before: u64) {
        if before & (self.stop() | self.started() | BOARDED) == self.stop()
            && let Some(Owner { client, class }) = &self.flags.owner
        {
            client.withdrawn_has_left(self.withdrawn(*class));
        }
    }

    fn withdrawn(&self, class: Class) -> Withdrawn {
        Withdrawn { class, cpu: self.cpu, restricted: self.restricted }
    }

    /// Work that will not be started is no work that anybody has to wait for.
    fn count_withdrawn(&self, before: u64) {
        if before & (self.stop() | self.started() | BOARDED) == 0
            && let Some(Owner { client, class }) = &self.flags.owner
        {
            client.withdraws(self.withdrawn(*class));
        }
    }
}
