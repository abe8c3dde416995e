//! Whether the CPU world takes what it is given: what a watchdog has to know, and a sketch of the moment for people.
//!
//! All workers busy is health, however long the queue. Stuck is something else: a job waits that could run, a worker
//! runs nothing, and nobody takes anything. For an instant that is normal, so it counts by how long it lasts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::io::IoWorld;

/// The look at the workers from outside. Never waits for them: it only reads counters.
pub struct Pulse {
    world: Arc<IoWorld>,
    suspicion: Suspicion,
}

/// A moment of the daemon, for one line of status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sketch {
    /// Open connections.
    pub connections: usize,
    /// Requests that wait for a worker.
    pub waiting: usize,
    /// Workers that run something.
    pub busy: usize,
    /// All workers.
    pub workers: usize,
}

/// Jobs wait although a worker is idle, and have done so for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// For how long nothing has been taken.
    pub lasting: Duration,
    /// Requests that wait.
    pub waiting: usize,
    /// Workers that run nothing.
    pub idle: usize,
}

impl Pulse {
    pub(crate) fn new(world: Arc<IoWorld>) -> Self {
        Self { world, suspicion: Suspicion::default() }
    }

    /// Looks at the workers. To be called about every `every`: between two looks that are much further apart, this
    /// process did not run itself, and what it did not do in that time is no evidence.
    pub fn look(&mut self, now: Instant, every: Duration) -> Option<Stall> {
        let bridge = &self.world.workers.bridge;
        let Sketch { waiting, busy, workers, .. } = self.sketch();
        let idle = workers.saturating_sub(busy);
        let suspicious = idle > 0 && bridge.could_run();
        let lasting = self.suspicion.look(suspicious.then(|| bridge.taken()), now, every)?;
        Some(Stall { lasting, waiting, idle })
    }

    /// What runs and waits.
    pub fn sketch(&self) -> Sketch {
        let IoWorld { workers, metrics, census, .. } = &*self.world;
        let n_workers = self.world.n_workers();
        Sketch {
            connections: census.open(),
            waiting: workers.bridge.waiting_jobs(),
            // Those of an older pool hold places against the one in force.
            busy: metrics.crews.roster().busy().min(n_workers),
            workers: n_workers,
        }
    }
}

/// Since when every look has found the same thing wrong.
#[derive(Debug, Default)]
struct Suspicion(Option<Suspected>);

#[derive(Clone, Copy, Debug)]
struct Suspected {
    since: Instant,
    looked_at: Instant,
    /// Batches that had been taken then.
    taken: u64,
}

/// Looks may come late by this factor before the time between them stops counting.
const LATE: u32 = 4;

impl Suspicion {
    /// One look: `suspicious` is how much has been taken, where something is wrong. For how long it has been.
    fn look(&mut self, suspicious: Option<u64>, now: Instant, every: Duration) -> Option<Duration> {
        let Some(taken) = suspicious else {
            self.0 = None;
            return None;
        };
        let before = self.0.filter(|before| {
            before.taken == taken && now.saturating_duration_since(before.looked_at) <= every * LATE
        });
        let since = before.map_or(now, |before| before.since);
        self.0 = Some(Suspected { since, looked_at: now, taken });
        Some(now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_millis(100);

    /// Looks every 100 ms; what the last look said.
    fn looks(facts: &[Option<u64>]) -> Option<Duration> {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        let mut now = start;
        facts
            .iter()
            .map(|fact| {
                now += EVERY;
                suspicion.look(*fact, now, EVERY)
            })
            .last()
            .flatten()
    }

    #[test]
    fn what_lasts_is_counted_from_its_first_sight() {
        assert_eq!(looks(&[None, Some(7)]), Some(Duration::ZERO));
        assert_eq!(looks(&[None, Some(7), Some(7), Some(7)]), Some(EVERY * 2));
    }

    #[test]
    fn a_job_taken_or_a_healthy_moment_begins_anew() {
        assert_eq!(looks(&[Some(7), Some(7), Some(8)]), Some(Duration::ZERO));
        assert_eq!(looks(&[Some(7), Some(7), None]), None);
        assert_eq!(looks(&[Some(7), None, Some(7)]), Some(Duration::ZERO));
    }

    #[test]
    fn time_in_which_nobody_looked_is_no_evidence() {
        let (mut suspicion, start) = (Suspicion::default(), Instant::now());
        suspicion.look(Some(7), start, EVERY);
        assert_eq!(suspicion.look(Some(7), start + EVERY * 100, EVERY), Some(Duration::ZERO));
        assert_eq!(suspicion.look(Some(7), start + EVERY * 103, EVERY), Some(EVERY * 3));
    }
}
