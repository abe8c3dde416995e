//! What waits for a worker, and who is next.
//!
//! Whoever is free pulls: a worker moves what has come over the bridge in here and takes the next batch, under one
//! short lock. Interactive and batch work share CPU time by weight; within a class the first in is the first out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::budget::Shortage;
use super::job::{Batch, Class};

/// How many batches that wait for memory of one order of magnitude a worker looks at; bounds the time under the lock.
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
    /// Not looked at yet, or put back.
    fresh: VecDeque<Batch>,
    /// Looked at and found to be short of something. Each stands beside those that are short of the same, so that many
    /// that cannot run hide none that can.
    parked: Vec<Parked>,
    /// Estimated CPU time given to this class, divided by its weight. The class with less is next.
    spent: Duration,
}

struct Parked {
    shortage: Shortage,
    /// Never empty.
    batches: VecDeque<Batch>,
}

impl Schedule {
    pub(crate) fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.batch.is_empty()
    }

    /// Adds a batch at the end of its class.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.line_to_fill(batch.class).fresh.push_back(batch);
    }

    /// Puts the rest of a batch back where it came from.
    pub(crate) fn put_back(&mut self, batch: Batch) {
        self.line_to_fill(batch.class).fresh.push_front(batch);
    }

    /// A class that had nothing to do starts level with the one that was served last: it has saved nothing up.
    fn line_to_fill(&mut self, class: Class) -> &mut Line {
        let line = match class {
            Class::Interactive => &mut self.interactive,
            Class::Batch => &mut self.batch,
        };
        if line.is_empty() {
            line.spent = line.spent.max(self.now);
        }
        line
    }

    /// Takes the next batch for which `reserve` finds what it needs; those that are short of something are parked.
    pub(crate) fn take<T>(
        &mut self,
        mut reserve: impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<(Batch, T)> {
        let interactive_first = self.interactive.spent <= self.batch.spent;
        let (first, second) = match interactive_first {
            true => (&mut self.interactive, &mut self.batch),
            false => (&mut self.batch, &mut self.interactive),
        };
        let (taken, served_from) = first.take(&mut reserve).or_else(|| second.take(&mut reserve))?;
        self.now = self.now.max(served_from);
        Some(taken)
    }

    /// Whether [`Schedule::take`] would find something.
    pub(crate) fn any(&self, mut fits: impl FnMut(&Batch) -> bool) -> bool {
        [&self.interactive, &self.batch].into_iter().any(|line| {
            line.fresh.iter().any(&mut fits)
                || line.parked.iter().any(|parked| parked.candidates().any(|(_, batch)| fits(batch)))
        })
    }

    /// When the job that has waited longest was given to the bridge. Lines are first in, first out, so it is in front.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        let lines = [&self.interactive, &self.batch].into_iter();
        let fronts = lines.flat_map(|line| {
            line.fresh
                .front()
                .into_iter()
                .chain(line.parked.iter().filter_map(|parked| parked.batches.front()))
        });
        fronts.filter_map(Batch::oldest).min()
    }

    /// Takes everything out, to be answered.
    pub(crate) fn drain(&mut self) -> Vec<Batch> {
        let lines = [&mut self.interactive, &mut self.batch].into_iter();
        let taken = lines.flat_map(|line| {
            let parked = std::mem::take(&mut line.parked).into_iter().flat_map(|parked| parked.batches);
            line.fresh.drain(..).chain(parked)
        });
        taken.collect()
    }
}

impl Line {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.parked.is_empty()
    }

    fn take<T>(
        &mut self,
        reserve: &mut impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<((Batch, T), Duration)> {
        // What is parked came first.
        let (batch, reserved) = self.take_parked(reserve).or_else(|| self.take_fresh(reserve))?;
        // Even work that is estimated as nothing counts, so that neither class can hold the other off for ever.
        let cost = batch.cpu().max(Duration::from_micros(1));
        let served_from = self.spent;
        self.spent += match batch.class {
            Class::Interactive => cost,
            Class::Batch => cost * (batch.settings.queue.batch_share.get() - 1),
        };
        Some(((batch, reserved), served_from))
    }

    fn take_parked<T>(
        &mut self,
        reserve: &mut impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<(Batch, T)> {
        for (place, parked) in self.parked.iter_mut().enumerate() {
            let found = parked.candidates().find_map(|(index, batch)| Some((index, reserve(batch).ok()?)));
            let Some((index, reserved)) = found else { continue };
            let batch = parked.batches.remove(index)?;
            if parked.batches.is_empty() {
                self.parked.remove(place);
            }
            return Some((batch, reserved));
        }
        None
    }

    /// Each batch is looked at once here, and then only beside those that are short of the same.
    fn take_fresh<T>(
        &mut self,
        reserve: &mut impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<(Batch, T)> {
        while let Some(batch) = self.fresh.pop_front() {
            match reserve(&batch) {
                Ok(reserved) => return Some((batch, reserved)),
                Err(shortage) => self.park(shortage, batch),
            }
        }
        None
    }

    fn park(&mut self, shortage: Shortage, batch: Batch) {
        match self.parked.iter_mut().find(|parked| parked.shortage == shortage) {
            Some(parked) => parked.batches.push_back(batch),
            None => self.parked.push(Parked { shortage, batches: VecDeque::from([batch]) }),
        }
    }
}

impl Parked {
    /// Those of which one may run. Jobs of one operation are alike; needs for memory are alike only roughly.
    fn candidates(&self) -> impl Iterator<Item = (usize, &Batch)> {
        let n_looked_at = match self.shortage {
            Shortage::Concurrency(_) => 1,
            Shortage::Memory(_) => LOOK_MAX,
        };
        self.batches.iter().enumerate().take(n_looked_at)
    }
}
