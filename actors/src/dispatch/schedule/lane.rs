//! What one client has waiting: short work and long work, each first in, first out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cost;
use super::line::Turn;
use crate::dispatch::backlog::Band;
use crate::dispatch::job::Batch;

/// The batches of one client.
#[derive(Default)]
pub(super) struct Lane {
    short: Queue,
    long: Queue,
    /// Where it stands in the order of its line.
    pub(super) turn: Option<Turn>,
}

#[derive(Default)]
struct Queue {
    batches: VecDeque<Batch>,
    /// Estimated CPU time that was given to it, on the common clock of the two.
    spent: Duration,
}

impl Queue {
    /// Where its front would end.
    fn end(&self) -> Option<Duration> {
        self.batches.front().map(|front| self.spent + cost(front))
    }
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.short.batches.is_empty() && self.long.batches.is_empty()
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.queue_to_fill(&batch, Duration::ZERO).push_back(batch);
    }

    /// What was served and not run to its end; it will be served again.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.queue_to_fill(&batch, cost(&batch)).push_front(batch);
    }

    /// The batches that this one belongs to, which get so much of what they were charged back.
    fn queue_to_fill(&mut self, batch: &Batch, given_back: Duration) -> &mut VecDeque<Batch> {
        if self.is_empty() {
            (self.short.spent, self.long.spent) = (Duration::ZERO, Duration::ZERO);
        }
        let (queue, other) = match Band::of(batch.cpu()) {
            Band::Short => (&mut self.short, &self.long),
            Band::Long => (&mut self.long, &self.short),
        };
        queue.spent = queue.spent.saturating_sub(given_back);
        if queue.batches.is_empty() {
            // Whoever had nothing to do has saved nothing up.
            queue.spent =
                if other.batches.is_empty() { Duration::ZERO } else { queue.spent.max(other.spent) };
        }
        &mut queue.batches
    }

    /// The one that would end first: short work, until it has had as much as the long work that waits beside it.
    fn next(&self) -> Band {
        match (self.short.end(), self.long.end()) {
            (Some(short), Some(long)) if short > long => Band::Long,
            (None, _) => Band::Long,
            _ => Band::Short,
        }
    }

    pub(super) fn front(&self) -> Option<&Batch> {
        match self.next() {
            Band::Short => self.short.batches.front(),
            Band::Long => self.long.batches.front(),
        }
    }

    /// Takes the front to be run, and charges it.
    pub(super) fn serve(&mut self) -> Option<Batch> {
        let queue = self.queue_of_front();
        let batch = queue.batches.pop_front()?;
        queue.spent += cost(&batch);
        Some(batch)
    }

    /// Takes the front to be answered, which costs nothing.
    pub(super) fn discard(&mut self) -> Option<Batch> {
        self.queue_of_front().batches.pop_front()
    }

    /// When the older of the fronts of its two queues was given to the bridge, of those that are lost.
    pub(super) fn oldest_lost(&self, now: Instant) -> Option<Instant> {
        let fronts = self.queues().into_iter().filter_map(|queue| queue.batches.front());
        fronts.filter(|front| front.is_lost(now)).filter_map(Batch::oldest).min()
    }

    /// Takes that one to be answered.
    pub(super) fn discard_lost(&mut self, now: Instant) -> Option<Batch> {
        let oldest = self.oldest_lost(now);
        let is_it = |queue: &&mut Queue| {
            queue.batches.front().is_some_and(|front| front.is_lost(now) && front.oldest() == oldest)
        };
        [&mut self.short, &mut self.long].into_iter().find(is_it)?.batches.pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.queues().into_iter().map(|queue| queue.batches.len()).sum()
    }

    fn queues(&self) -> [&Queue; 2] {
        [&self.short, &self.long]
    }

    /// Whether nobody waits any more for one of its batches.
    pub(super) fn has_abandoned(&self) -> bool {
        self.queues().into_iter().any(|queue| queue.batches.iter().any(Batch::is_abandoned))
    }

    /// Takes all of those out to be answered.
    pub(super) fn take_abandoned(&mut self) -> Vec<Batch> {
        let mut taken = Vec::new();
        for queue in [&mut self.short, &mut self.long] {
            for _ in 0..queue.batches.len() {
                let Some(batch) = queue.batches.pop_front() else { break };
                if batch.is_abandoned() { taken.push(batch) } else { queue.batches.push_back(batch) }
            }
        }
        taken
    }

    fn queue_of_front(&mut self) -> &mut Queue {
        match self.next() {
            Band::Short => &mut self.short,
            Band::Long => &mut self.long,
        }
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        [&self.short, &self.long].into_iter().filter_map(|queue| queue.batches.front()?.oldest()).min()
    }

    pub(super) fn into_batches(self) -> impl Iterator<Item = Batch> {
        self.short.batches.into_iter().chain(self.long.batches)
    }
}
