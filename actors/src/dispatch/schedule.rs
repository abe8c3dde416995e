//! What waits for a worker, and who is next.
//!
//! Whoever is free pulls: a worker moves what has come over the bridge in here and takes the next batch, under one
//! short lock. Interactive and batch work share CPU time by weight; within a class the first in is the first out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::job::{Batch, Class};

/// How far into a class a worker looks for a batch that fits the memory left; bounds the time under the lock.
const LOOK_MAX: usize = 64;

/// Batches in the order in which workers should take them.
#[derive(Default)]
pub(crate) struct Schedule {
    interactive: Line,
    batch: Line,
    /// Where the class that was served last stood when it was: the clock of [`Line::spent`].
    now: Duration,
}

#[derive(Default)]
struct Line {
    batches: VecDeque<Batch>,
    /// Estimated CPU time given to this class, divided by its weight. The class with less is next.
    spent: Duration,
}

impl Schedule {
    pub(crate) fn is_empty(&self) -> bool {
        self.interactive.batches.is_empty() && self.batch.batches.is_empty()
    }

    /// Adds a batch at the end of its class.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.line_to_fill(batch.class).batches.push_back(batch);
    }

    /// Puts the rest of a batch back where it came from.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.line_to_fill(batch.class).batches.push_front(batch);
    }

    /// A class that had nothing to do starts level with the one that was served last: it has saved nothing up.
    fn line_to_fill(&mut self, class: Class) -> &mut Line {
        let line = match class {
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        };
        if line.batches.is_empty() {
            line.spent = line.spent.max(self.now);
        }
        line
    }

    /// Takes the next batch for which `fits` reserves what it needs; the ones before it are passed over.
    pub(crate) fn take<T>(&mut self, mut fits: impl FnMut(&Batch) -> Option<T>) -> Option<(Batch, T)> {
        let interactive_first = self.interactive.spent <= self.batch.spent;
        let (first, second) = match interactive_first {
            true => (&mut self.interactive, &mut self.batch),
            false => (&mut self.batch, &mut self.interactive),
        };
        let (taken, served_from) = first.take(&mut fits).or_else(|| second.take(&mut fits))?;
        self.now = self.now.max(served_from);
        Some(taken)
    }

    /// Whether [`Schedule::take`] would find something for which `fits`.
    pub(crate) fn any(&self, mut fits: impl FnMut(&Batch) -> bool) -> bool {
        [&self.interactive, &self.batch]
            .into_iter()
            .any(|line| line.batches.iter().take(LOOK_MAX).any(&mut fits))
    }

    /// When the job that has waited longest was given to the bridge. Lines are first in, first out, so it is in front.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let fronts = [&self.interactive, &self.batch].into_iter().filter_map(|line| line.batches.front());
        fronts.filter_map(Batch::oldest).min()
    }

    /// Takes everything out, to be answered.
    pub(crate) fn drain(&mut self) -> Vec<Batch> {
        self.interactive.batches.drain(..).chain(self.batch.batches.drain(..)).collect()
    }
}

impl Line {
    fn take<T>(&mut self, fits: &mut impl FnMut(&Batch) -> Option<T>) -> Option<((Batch, T), Duration)> {
        let (place, reserved) = self
            .batches
            .iter()
            .take(LOOK_MAX)
            .enumerate()
            .find_map(|(place, batch)| Some((place, fits(batch)?)))?;
        let batch = self.batches.remove(place)?;
        // Even work that is estimated as nothing counts, so that neither class can hold the other off for ever.
        let cost = batch.cpu().max(Duration::from_micros(1));
        let served_from = self.spent;
        self.spent += match batch.class {
            Class::Interactive => cost,
            Class::Batch => cost * (batch.settings.queue.batch_share.get() - 1),
        };
        Some(((batch, reserved), served_from))
    }
}
