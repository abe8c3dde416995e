//! The work of one class: a line for each thing that batches may be short of, all under one clock.

use std::time::{Duration, Instant};

use super::line::{Line, Turn};
use super::{Settlement, Taken, cost};
use crate::dispatch::budget::Shortage;
use crate::dispatch::client::Client;
use crate::dispatch::job::{Batch, Class, Need};

/// What waits in one class, shared between its clients.
pub(super) struct ClassQueue {
    class: Class,
    /// The first is of those that need nothing and stays; the others go when they are empty. What stands in one line
    /// needs the same, so that one that cannot run speaks for all of it, and many that cannot run hide none that can.
    lines: Vec<Line>,
    /// The virtual time of the class, nanoseconds: where a client that had nothing to do starts.
    clock: u64,
    /// Estimated CPU time given to this class, divided by its weight. The class with less is next.
    pub(super) spent: Duration,
    /// The lines that are tried when the first of them cannot run; kept for its memory alone.
    tried: Vec<(Turn, usize)>,
    /// The lines that the last look found too little memory for.
    short: Vec<usize>,
}

/// How far a client whose work waits may stay behind the clock, nanoseconds of virtual time.
const LAG_MAX: u64 = 1_000_000_000;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl ClassQueue {
    pub(super) fn new(class: Class) -> Self {
        let lines = vec![Line::new(Need::default(), class)];
        Self { class, lines, clock: 0, spent: Duration::ZERO, tried: Vec::new(), short: Vec::new() }
    }

    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(Line::is_empty)
    }

    pub(super) fn push(&mut self, batch: Batch) {
        self.line_to_fill(&batch).push(batch);
    }

    pub(super) fn put_back(&mut self, batch: Batch) {
        self.line_to_fill(&batch).put_back(batch);
    }

    fn line_to_fill(&mut self, batch: &Batch) -> &mut Line {
        let client = batch.client();
        // It has saved nothing up while it had nothing to do, and not much while none of its work could run; what it
        // had too much of is remembered.
        let waits = self.lines.iter().any(|line| line.has(client));
        let least = if waits { self.clock.saturating_sub(LAG_MAX) } else { self.clock };
        client.set_next(self.class, client.next(self.class).max(least));
        let need = batch.need();
        let place = self.lines.iter().position(|line| line.need == need).unwrap_or_else(|| {
            self.lines.push(Line::new(need, self.class));
            self.lines.len() - 1
        });
        &mut self.lines[place]
    }

    /// The next batch that can run or is lost, and where the class stood before.
    pub(super) fn take<T>(
        &mut self,
        now: Instant,
        reserve: &mut impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<(Taken<T>, Duration)> {
        let served_from = self.spent;
        self.short.clear();
        // Mostly the first of them can run. Else they are sorted once, however many cannot.
        let first = self.turns().min()?;
        let taken = self.take_from(first.1, now, reserve).or_else(|| {
            let mut tried = std::mem::take(&mut self.tried);
            tried.clear();
            tried.extend(self.turns().filter(|turn| *turn != first));
            tried.sort_unstable();
            let taken = tried.iter().find_map(|(_, place)| self.take_from(*place, now, reserve));
            self.tried = tried;
            taken
        })?;
        Some((taken, served_from))
    }

    /// Every line and when it is next.
    fn turns(&self) -> impl Iterator<Item = (Turn, usize)> {
        self.lines.iter().enumerate().filter_map(|(place, line)| Some((line.turn()?, place)))
    }

    /// The front of a line, if it can run or is lost.
    fn take_from<T>(
        &mut self,
        place: usize,
        now: Instant,
        reserve: &mut impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Option<Taken<T>> {
        let line = &mut self.lines[place];
        let front = line.front()?;
        let taken = if front.is_lost(now) {
            Taken::Lost(line.discard()?)
        } else {
            match reserve(front) {
                Ok(reserved) => Taken::Job(line.serve()?, reserved),
                Err(shortage) => {
                    if shortage == Shortage::Memory {
                        self.short.push(place);
                    }
                    return None;
                }
            }
        };
        if let Taken::Job(batch, _) = &taken {
            self.charge(batch);
            if batch.work_bytes() > 0 {
                self.pass_over_short(now);
            }
        }
        self.drop_if_empty(place);
        Some(taken)
    }

    /// Work that needs memory was taken after a look that found too little for others before it.
    pub(super) fn pass_over_short(&mut self, now: Instant) {
        for place in self.short.drain(..) {
            self.lines[place].passed_over_since.get_or_insert(now);
        }
    }

    /// The lines that are passed over, and since when.
    pub(super) fn passed_over(&self) -> impl Iterator<Item = (Instant, usize)> {
        // The first needs nothing.
        let lines = self.lines.iter().enumerate().skip(1);
        lines.filter_map(|(place, line)| Some((line.passed_over_since?, place)))
    }

    /// The front of a line before its turn, or what it is short of.
    pub(super) fn take_early<T>(
        &mut self,
        place: usize,
        now: Instant,
        reserve: &mut impl FnMut(&Batch) -> Result<T, Shortage>,
    ) -> Result<(Taken<T>, Duration), Shortage> {
        let served_from = self.spent;
        self.short.clear();
        match self.take_from(place, now, reserve) {
            Some(taken) => Ok((taken, served_from)),
            None if self.short.is_empty() => Err(Shortage::Concurrency),
            None => Err(Shortage::Memory),
        }
    }

    /// Whether the front of a line could be taken, or what it is short of.
    pub(super) fn fits(
        &self,
        place: usize,
        now: Instant,
        fits: &mut impl FnMut(&Batch) -> Result<(), Shortage>,
    ) -> Result<(), Shortage> {
        let front = self.lines[place].front().filter(|front| !front.is_lost(now));
        front.map_or(Ok(()), fits)
    }

    /// Charges a batch that did not stand in line; where the class stood before.
    pub(super) fn pass(&mut self, batch: &Batch) -> Duration {
        let served_from = self.spent;
        batch.client().set_next(self.class, batch.client().next(self.class).max(self.clock));
        self.charge(batch);
        served_from
    }

    fn charge(&mut self, batch: &Batch) {
        let cost = cost(batch);
        let start = batch.client().next(self.class);
        batch.client().set_next(self.class, start.saturating_add(nanos(cost)));
        self.reorder(batch.client());
        // The clock also goes on by half of what each client's share of this is, so that clients who come, ask once
        // and go do not hold off for ever one who stays.
        let n_lanes = self.lines.iter().map(Line::n_lanes).sum::<usize>() as u64 + 1;
        self.clock = self.clock.max(start).saturating_add(nanos(cost) / 2 / n_lanes);
        self.spent += cost * Settlement::of(batch).weight;
    }

    pub(super) fn settle(&mut self, client: &Client, charged: Duration, used: Duration) {
        let charged_to = client.next(self.class);
        let next = charged_to.saturating_add(nanos(used)).saturating_sub(nanos(charged));
        // What it gets back is nothing that it could save up.
        client.set_next(self.class, next.max(self.clock.saturating_sub(LAG_MAX).min(charged_to)));
        self.reorder(client);
    }

    fn reorder(&mut self, client: &Client) {
        self.lines.iter_mut().for_each(|line| line.reorder(client));
    }

    /// The oldest batch that is lost among the first of some clients.
    pub(super) fn take_lost(&mut self, now: Instant) -> Option<Batch> {
        let found =
            self.lines.iter_mut().enumerate().find_map(|(place, line)| Some((place, line.take_lost(now)?)));
        let (place, batch) = found?;
        self.drop_if_empty(place);
        Some(batch)
    }

    /// What nobody waits for any more, until `left` batches were looked at.
    pub(super) fn take_abandoned(&mut self, left: &mut usize) -> Vec<Batch> {
        let taken = self.lines.iter_mut().flat_map(|line| line.take_abandoned(left)).collect();
        (1..self.lines.len()).rev().for_each(|place| self.drop_if_empty(place));
        taken
    }

    fn drop_if_empty(&mut self, place: usize) {
        if place > 0 && self.lines[place].is_empty() {
            self.lines.swap_remove(place);
        }
    }

    pub(super) fn any(&self, now: Instant, fits: &mut impl FnMut(&Batch) -> Result<(), Shortage>) -> bool {
        self.lines.iter().filter_map(Line::front).any(|front| front.is_lost(now) || fits(front).is_ok())
    }

    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lines.iter().filter_map(Line::oldest).min()
    }

    pub(super) fn drain(&mut self) -> Vec<Batch> {
        let drained = self.lines.iter_mut().flat_map(Line::drain).collect();
        self.lines.truncate(1);
        drained
    }
}
