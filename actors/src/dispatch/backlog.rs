//! How much work waits and runs, and so how long one more request would have to wait.
//!
//! Counted in estimated CPU time, which the cost model corrects by what the workers measure. The I/O world reads
//! these counters to refuse at once what could only be refused later.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::client::Client;
use super::{Batch, Class};
use crate::operation::OperationIndex;

/// Work below this goes before longer work of the same client, as long as it has had no more CPU time.
const SHORT_MAX: Duration = Duration::from_millis(1);

/// Whether a job is one that should not stand behind a long one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Band {
    Short,
    Long,
}

impl Band {
    pub(super) fn of(cpu: Duration) -> Self {
        if cpu < SHORT_MAX { Self::Short } else { Self::Long }
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Estimated CPU time of work that waits, less that of work for which nobody waits any more, nanoseconds. A batch and
/// the withdrawn work in it leave one after the other, so that for a moment it may be below zero.
#[derive(Debug, Default)]
pub(super) struct Load(AtomicI64);

impl Load {
    pub(super) fn add(&self, cpu: Duration) {
        self.0.fetch_add(signed(cpu), Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, cpu: Duration) {
        self.0.fetch_sub(signed(cpu), Ordering::Relaxed);
    }

    pub(super) fn withdraw(&self, cpu: Duration) {
        self.subtract(cpu);
    }

    /// What was withdrawn is also taken off with the batch that it was in; it counts once.
    pub(super) fn withdrawn_has_left(&self, cpu: Duration) {
        self.add(cpu);
    }

    /// What somebody waits for.
    pub(super) fn live(&self) -> Duration {
        Duration::from_nanos(self.live_nanos())
    }

    fn live_nanos(&self) -> u64 {
        self.0.load(Ordering::Relaxed).try_into().unwrap_or(0)
    }
}

/// No estimate is near 292 years.
fn signed(cpu: Duration) -> i64 {
    i64::try_from(cpu.as_nanos()).unwrap_or(i64::MAX)
}

/// The work of all clients together.
pub(crate) struct Backlog {
    /// In one cache line, because both worlds write most of them with every batch, and in one of its own.
    counts: CachePadded<Counts>,
    /// Where the virtual time of each class stands, nanoseconds. Written by workers alone.
    clocks: CachePadded<[AtomicU64; 2]>,
    started_at: Instant,
    /// When a request was last refused because it would have waited for too long, nanoseconds since the start; 0 is
    /// never.
    pressed_at: AtomicU64,
    /// By class, nanoseconds: the longest that a request might have waited which was refused while this pressure
    /// lasts; 0 once one that bears no more, and waited about as long, has come in.
    refused: [AtomicU64; 2],
    /// Operations whose jobs may have to wait for memory or for each other.
    restricted: Vec<Restricted>,
}

/// What waits and runs.
#[derive(Debug, Default)]
struct Counts {
    /// By class.
    waiting: [Load; 2],
    /// Clients with work that waits, by class.
    clients: [AtomicUsize; 2],
    /// Batches of all.
    batches: Batches,
    /// What runs, each counted whole until it ends.
    running: AtomicU64,
}

/// How many there are, rather than how long.
#[derive(Debug, Default)]
struct Batches {
    waiting: AtomicUsize,
    /// Of those that wait, the ones for which nobody waits any more. Counted where a batch has one job for certain.
    withdrawn: AtomicUsize,
    running: AtomicUsize,
}

/// A job that nobody waits for any more, as it was counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Withdrawn {
    pub(super) class: Class,
    pub(super) cpu: Duration,
    /// Its operation, where it may have to wait for more than a worker.
    pub(super) restricted: Option<OperationIndex>,
}

#[derive(Debug, Default)]
struct Restricted {
    waiting: Load,
    batches: Batches,
}

impl Batches {
    /// What waits, less what idle places are about to take.
    fn left(&self, waits: Duration, places: usize) -> Duration {
        let withdrawn = self.withdrawn.load(Ordering::Relaxed);
        let waiting = self.waiting.load(Ordering::Relaxed).saturating_sub(withdrawn);
        let idle = places.saturating_sub(self.running.load(Ordering::Relaxed));
        let [waiting, left] =
            [waiting, waiting.saturating_sub(idle)].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        if left == 0 { Duration::ZERO } else { waits / waiting * left }
    }
}

/// A request that asks for a place behind all that is here.
pub(crate) struct Newcomer<'a> {
    pub(crate) client: &'a Client,
    pub(crate) class: Class,
    /// Its own estimate.
    pub(crate) cpu: Duration,
    /// Its operation, and how many of its jobs may run at the same time, where those are fewer than the workers.
    pub(crate) restricted: Option<(OperationIndex, usize)>,
    pub(crate) workers: usize,
    /// When the first of the workers is free, by the estimate of what it runs.
    pub(crate) free_in: Duration,
    pub(crate) batch_share: NonZeroU32,
    pub(crate) now: Instant,
}

/// What a newcomer has to expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// How long it would wait for a worker, for all that is known of others who come.
    pub(crate) wait: Duration,
    /// How long it would wait under pressure, while others come who are not here yet.
    disturbed: Duration,
    /// How long it would wait if nobody else came.
    undisturbed: Duration,
    /// After what time the other clients of its class had nothing left that waits, if nobody else came.
    rivals_gone: Duration,
}

impl Outlook {
    /// Of one that nobody comes in the way of.
    #[cfg(test)]
    pub(super) fn undisturbed(wait: Duration) -> Self {
        Self { wait, disturbed: wait, undisturbed: wait, rivals_gone: Duration::ZERO }
    }

    /// After what time the same newcomer would have to wait for no longer than `wait_max`, if nobody else came.
    ///
    /// Whoever is refused finds the daemon under pressure when it comes back. What is then thought of those who are not
    /// here yet is over with the rivals that are here, or with the pressure.
    pub(crate) fn back_in(&self, wait_max: Duration) -> Duration {
        let pressed = self.disturbed.saturating_sub(wait_max).min(self.rivals_gone).min(PRESSED_FOR);
        self.undisturbed.saturating_sub(wait_max).max(pressed)
    }
}

/// For how long after a refusal the daemon is taken to be under pressure.
const PRESSED_FOR: Duration = Duration::from_secs(1);

impl Backlog {
    pub(crate) fn new(n_operations: usize) -> Self {
        Self {
            counts: CachePadded::default(),
            clocks: CachePadded::default(),
            started_at: Instant::now(),
            pressed_at: AtomicU64::new(0),
            refused: Default::default(),
            restricted: (0..n_operations).map(|_| Restricted::default()).collect(),
        }
    }

    pub(super) fn enters(&self, class: Class, cpu: Duration, first_of_client: bool) {
        self.counts.waiting[class as usize].add(cpu);
        if first_of_client {
            self.counts.clients[class as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn leaves(&self, class: Class, cpu: Duration, last_of_client: bool) {
        self.counts.waiting[class as usize].subtract(cpu);
        if last_of_client {
            self.counts.clients[class as usize].fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn withdraws(&self, work: Withdrawn) {
        self.counts.waiting[work.class as usize].withdraw(work.cpu);
        if let Some(restricted) = self.restricted(work.restricted) {
            restricted.waiting.withdraw(work.cpu);
            for batches in [&self.counts.batches, &restricted.batches] {
                batches.withdrawn.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn withdrawn_has_left(&self, work: Withdrawn) {
        self.counts.waiting[work.class as usize].withdrawn_has_left(work.cpu);
        if let Some(restricted) = self.restricted(work.restricted) {
            restricted.waiting.withdrawn_has_left(work.cpu);
            for batches in [&self.counts.batches, &restricted.batches] {
                batches.withdrawn.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// A batch has come to wait.
    pub(super) fn batch_enters(&self, batch: &Batch) {
        batch.client().enters(batch.class, batch.cpu());
        self.counts.batches.waiting.fetch_add(1, Ordering::Relaxed);
        if let Some(restricted) = self.restricted_by(batch) {
            restricted.waiting.add(batch.cpu());
            restricted.batches.waiting.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A batch was taken, or answered where it was.
    pub(super) fn batch_leaves(&self, batch: &Batch) {
        batch.client().leaves(batch.class, batch.cpu());
        self.counts.batches.waiting.fetch_sub(1, Ordering::Relaxed);
        if let Some(restricted) = self.restricted_by(batch) {
            restricted.waiting.subtract(batch.cpu());
            restricted.batches.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn restricted_by(&self, batch: &Batch) -> Option<&Restricted> {
        self.restricted(batch.restricted().map(|entry| entry.index))
    }

    fn restricted(&self, operation: Option<OperationIndex>) -> Option<&Restricted> {
        self.restricted.get(usize::from(operation?.0))
    }

    /// A batch is run; it counts until [`Backlog::has_run`].
    pub(super) fn runs(&self, batch: &Batch) -> Running {
        let restricted = batch.restricted().map(|entry| entry.index);
        let running = Running { cpu: batch.cpu(), restricted };
        self.counts.running.fetch_add(nanos(running.cpu), Ordering::Relaxed);
        for batches in self.batches(running.restricted) {
            batches.running.fetch_add(1, Ordering::Relaxed);
        }
        running
    }

    /// It does not run any more.
    pub(super) fn has_run(&self, running: &Running) {
        self.counts.running.fetch_sub(nanos(running.cpu), Ordering::Relaxed);
        for batches in self.batches(running.restricted) {
            batches.running.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn batches(&self, restricted: Option<OperationIndex>) -> impl Iterator<Item = &Batches> {
        let restricted = self.restricted(restricted);
        [&self.counts.batches].into_iter().chain(restricted.map(|restricted| &restricted.batches))
    }

    /// So many batches wait, for tests of what is made of that.
    #[cfg(test)]
    pub(super) fn count_waiting(&self, n: usize) {
        self.counts.batches.waiting.fetch_add(n, Ordering::Relaxed);
    }

    /// So much runs, for the same tests.
    #[cfg(test)]
    pub(super) fn count_running(&self, cpu: Duration) {
        self.counts.running.fetch_add(nanos(cpu), Ordering::Relaxed);
    }

    /// Estimated CPU time of what waits in a class.
    pub(crate) fn waiting(&self, class: Class) -> Duration {
        self.counts.waiting[class as usize].live()
    }

    /// Clients with work that waits in a class.
    pub(crate) fn clients(&self, class: Class) -> usize {
        self.counts.clients[class as usize].load(Ordering::Relaxed)
    }

    /// The schedule has come to this virtual time.
    pub(super) fn set_clock(&self, class: Class, clock: u64) {
        self.clocks[class as usize].store(clock, Ordering::Relaxed);
    }

    /// How much more than others this client has had, which they get before its next job.
    fn lead(&self, client: &Client, class: Class) -> Duration {
        let clock = self.clocks[class as usize].load(Ordering::Relaxed);
        Duration::from_nanos(client.next(class).saturating_sub(clock))
    }

    /// The longest that a request of this class might have waited which was refused lately, nanoseconds; 0 is none.
    pub(super) fn refused(&self, class: Class, now: Instant) -> u64 {
        if self.is_pressed(now) { self.refused[class as usize].load(Ordering::Relaxed) } else { 0 }
    }

    /// A request was refused because it would have waited for too long. Pressure begins with those who could not
    /// know: whoever asks again and again alone makes none.
    pub(super) fn note_refused(&self, class: Class, wait_max: Duration, was_held: bool, now: Instant) {
        let longest = self.refused(class, now).max(nanos(wait_max)).max(1);
        self.refused[class as usize].store(longest, Ordering::Relaxed);
        if !was_held {
            self.note_pressure(now);
        }
    }

    /// A request has come in although those who bear no more had to wait until some room was made: it is made now.
    pub(super) fn note_room(&self, class: Class) {
        self.refused[class as usize].store(0, Ordering::Relaxed);
    }

    fn note_pressure(&self, now: Instant) {
        let since_start = now.saturating_duration_since(self.started_at);
        self.pressed_at.store(nanos(since_start).max(1), Ordering::Relaxed);
    }

    fn is_pressed(&self, now: Instant) -> bool {
        let at = self.pressed_at.load(Ordering::Relaxed);
        at > 0 && now.saturating_duration_since(self.started_at + Duration::from_nanos(at)) < PRESSED_FOR
    }

    /// Whether a request was refused lately because it would have waited for too long. Reads the clock only if ever.
    pub(crate) fn is_pressed_now(&self) -> bool {
        self.pressed_at.load(Ordering::Relaxed) > 0 && self.is_pressed(Instant::now())
    }

    /// After what time all that waits has begun, if nothing more comes.
    pub(crate) fn begins_in(&self, workers: usize) -> Duration {
        divided(self.waiting(Class::Interactive) + self.waiting(Class::Batch), workers)
    }

    /// How long the workers need for all that waits and runs, if nothing more comes.
    pub(crate) fn drains_in(&self, workers: usize) -> Duration {
        let waiting = self.waiting(Class::Interactive) + self.waiting(Class::Batch);
        divided(waiting + self.left_of_running(), workers)
    }

    /// Nobody knows how far what runs has come: half of it, on the average.
    fn left_of_running(&self) -> Duration {
        Duration::from_nanos(self.counts.running.load(Ordering::Relaxed) / 2)
    }

    /// The longest that a newcomer can have to wait as [`Backlog::outlook`] foresees it, quickly told: until all that is
    /// here has begun, and one of the workers is free, which is no later than they are on the average. `None` where
    /// more than that decides.
    pub(crate) fn wait_at_most(&self, newcomer: &Newcomer<'_>) -> Option<Duration> {
        if newcomer.restricted.is_some() || self.is_pressed(newcomer.now) {
            return None;
        }
        let waiting: u64 = self.counts.waiting.iter().map(Load::live_nanos).sum();
        let running = self.counts.running.load(Ordering::Relaxed);
        Some(Duration::from_nanos((waiting + running) / newcomer.workers.max(1) as u64))
    }

    /// How long a newcomer would wait for a worker.
    ///
    /// Not simply behind all that is here: while it waits, every other client gets as much as its own client has had
    /// and has waiting, and the other class its share, so that a client with little behind it is not refused for what another has queued. Of
    /// what runs only the job counts that ends first: until then nobody begins, while all of them may end at any moment.
    pub(crate) fn outlook(&self, newcomer: &Newcomer<'_>) -> Outlook {
        let Newcomer { client, class, cpu, batch_share, workers, free_in, now, .. } = *newcomer;
        let others = match class {
            Class::Interactive => Class::Batch,
            Class::Batch => Class::Interactive,
        };
        let waiting = client.waiting(class);
        let mine = own(waiting, cpu);
        let is_counted = waiting.iter().any(|band| !band.is_zero());
        let rivals = self.clients(class).saturating_sub(usize::from(is_counted));
        let rivals = u32::try_from(rivals).unwrap_or(u32::MAX);
        let as_much = self.lead(client, class) + mine + cpu;
        let fair = mine.saturating_add(as_much.saturating_mul(rivals));
        let here = self.counts.batches.left(self.waiting(class), workers);
        let others_left = self.counts.batches.left(self.waiting(others), workers);
        let share = batch_share.get() - 1;
        let behind = |ahead: Duration| {
            let of_others = match class {
                Class::Interactive => (ahead + cpu) / share,
                Class::Batch => (ahead + cpu).saturating_mul(share),
            };
            let wait = free_in.saturating_add(divided(ahead + others_left.min(of_others), workers));
            match newcomer.restricted {
                Some((operation, at_once)) => wait.max(self.restricted_wait(operation, at_once, fair)),
                None => wait,
            }
        };
        let undisturbed = behind(here.min(fair));
        // While more comes than can be done, others will go before it who are not here yet: something between what is
        // here and all that is fair.
        let disturbed = if fair > here { behind(here + (fair - here) / 2) } else { undisturbed };
        let wait = if self.is_pressed(now) { disturbed } else { undisturbed };
        // They and its client take turns until those who have less are done.
        let own: Duration = waiting.iter().sum();
        let theirs = here.saturating_sub(own);
        let rivals_gone = divided(theirs + own.min(theirs / rivals.max(1)), workers);
        Outlook { wait, disturbed, undisturbed, rivals_gone }
    }

    fn restricted_wait(&self, operation: OperationIndex, at_once: usize, fair: Duration) -> Duration {
        let wait = |restricted: &Restricted| {
            divided(restricted.batches.left(restricted.waiting.live(), at_once).min(fair), at_once)
        };
        self.restricted(Some(operation)).map(wait).unwrap_or_default()
    }
}

/// What of its own client's work goes before a newcomer: all of its band, and as much of the other band.
fn own([short, long]: [Duration; 2], cpu: Duration) -> Duration {
    match Band::of(cpu) {
        Band::Short => short + long.min(short),
        Band::Long => long + short.min(long + cpu),
    }
}

fn divided(cpu: Duration, by: usize) -> Duration {
    cpu / u32::try_from(by.max(1)).unwrap_or(u32::MAX)
}

/// Work on a worker, as it is counted.
#[must_use]
pub(super) struct Running {
    cpu: Duration,
    restricted: Option<OperationIndex>,
}

#[cfg(test)]
mod tests;
