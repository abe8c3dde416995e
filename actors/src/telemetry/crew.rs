//! The workers of one pool as they are counted, and all pools that there are or were. A reload may put another pool in
//! the place of the one in force: sums go on over all of them, while a worker's own row begins with its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};

use super::worker::{OperationCounters, WorkerCounters};

/// The workers of one pool, by index.
pub(crate) struct Crew(Vec<WorkerCounters>);

impl Crew {
    pub(crate) fn workers(&self) -> &[WorkerCounters] {
        &self.0
    }
}

/// Who counts now, who still finishes a job, and what those who are gone have left. One snapshot, so that whoever
/// adds up finds each crew in one place.
pub(crate) struct Roster {
    pub(crate) current: Arc<Crew>,
    /// Crews of older pools whose threads have not all ended.
    pub(crate) leaving: Vec<Arc<Crew>>,
    /// Sums over the crews that are gone.
    past: Arc<Vec<OperationCounters>>,
}

impl Roster {
    /// All counters of one operation, whoever counted them.
    pub(crate) fn operation(&self, index: usize) -> impl Iterator<Item = &OperationCounters> {
        let present = self.workers().map(move |(_, worker)| &worker.operations()[index]);
        present.chain([&self.past[index]])
    }

    /// All workers that there are: their place in their pool, and what they count.
    pub(crate) fn workers(&self) -> impl Iterator<Item = (usize, &WorkerCounters)> {
        self.leaving.iter().chain([&self.current]).flat_map(|crew| crew.workers().iter().enumerate())
    }

    /// When the first of so many workers is free, by the estimates of what they run, `uptime` after the start.
    pub(crate) fn free_in(&self, n_workers: usize, uptime: Duration) -> Duration {
        let running = self.workers().filter_map(|(_, worker)| worker.running());
        let left =
            running.map(|running| running.since.saturating_add(running.estimate).saturating_sub(uptime));
        let (n_busy, first) = left.fold((0, Duration::MAX), |(n, first), left| (n + 1, first.min(left)));
        if n_busy < n_workers { Duration::ZERO } else { first }
    }

    /// Workers that run something, whichever pool they are of.
    pub(crate) fn busy(&self) -> usize {
        self.workers().filter(|(_, worker)| worker.running().is_some()).count()
    }
}

/// The roster of the daemon. Readers never wait for whoever changes it.
pub(crate) struct Crews {
    roster: ArcSwap<Roster>,
    n_operations: usize,
}

impl Crews {
    /// Nobody yet.
    pub(super) fn new(n_operations: usize) -> Self {
        let roster = Roster {
            current: Arc::new(Crew(Vec::new())),
            leaving: Vec::new(),
            past: Arc::new((0..n_operations).map(|_| OperationCounters::default()).collect()),
        };
        Self { roster: ArcSwap::from_pointee(roster), n_operations }
    }

    /// Counters for a pool that is to be built; they count for nothing until [`Crews::take_over`].
    pub(crate) fn recruit(&self, workers: usize) -> Arc<Crew> {
        Arc::new(Crew((0..workers).map(|_| WorkerCounters::new(self.n_operations)).collect()))
    }

    /// This crew is the one in force; the one before it leaves.
    pub(crate) fn take_over(&self, crew: &Arc<Crew>) {
        self.roster.rcu(|before| {
            let old = (!before.current.0.is_empty()).then(|| Arc::clone(&before.current));
            Roster {
                current: Arc::clone(crew),
                leaving: before.leaving.iter().cloned().chain(old).collect(),
                past: Arc::clone(&before.past),
            }
        });
    }

    /// The last thread of this crew has ended: its rows go, what they have counted stays. Whether it was leaving.
    pub(crate) fn gone(&self, crew: &Arc<Crew>) -> bool {
        let before = self.roster.rcu(|before| {
            let (gone, leaving): (Vec<_>, Vec<_>) =
                before.leaving.iter().cloned().partition(|other| Arc::ptr_eq(other, crew));
            let past = if gone.is_empty() { Arc::clone(&before.past) } else { sums(&before.past, crew) };
            Roster { current: Arc::clone(&before.current), leaving, past }
        });
        before.leaving.iter().any(|other| Arc::ptr_eq(other, crew))
    }

    pub(crate) fn roster(&self) -> Guard<Arc<Roster>> {
        self.roster.load()
    }
}

/// What is past together with what a crew has counted that counts no more.
fn sums(past: &[OperationCounters], crew: &Crew) -> Arc<Vec<OperationCounters>> {
    let sum_of_one = |(index, past): (usize, &OperationCounters)| {
        let sum = OperationCounters::default();
        sum.add(past);
        crew.workers().iter().for_each(|worker| sum.add(&worker.operations()[index]));
        sum
    };
    Arc::new(past.iter().enumerate().map(sum_of_one).collect())
}

impl OperationCounters {
    /// Adds what others have counted; for the one owner of `self`.
    fn add(&self, other: &Self) {
        let pairs: [(&AtomicU64, &AtomicU64); 6] = [
            (&self.done, &other.done),
            (&self.failed, &other.failed),
            (&self.panicked, &other.panicked),
            (&self.dropped, &other.dropped),
            (&self.stopped, &other.stopped),
            (&self.shared, &other.shared),
        ];
        for (sum, count) in pairs {
            super::histogram::bump(sum, count.load(Ordering::Relaxed));
        }
        self.queue.add(&other.queue);
        self.service.add(&other.service);
        self.accuracy.add(&other.accuracy);
    }
}

#[cfg(test)]
mod tests {
    use super::super::HistogramSnapshot;
    use super::*;
    use crate::dispatch::ClientKey;
    use crate::operation::OperationIndex;
    use crate::telemetry::{End, Started};

    const ECHO: OperationIndex = OperationIndex(0);
    const SECOND: Duration = Duration::from_secs(1);

    fn done(crews: &Crews) -> (u64, u64, Duration) {
        let roster = crews.roster();
        let service = HistogramSnapshot::of(roster.operation(0).map(|one| &one.service));
        let done = roster.operation(0).map(|one| one.done.load(Ordering::Relaxed)).sum();
        (done, service.count(), service.sum)
    }

    #[test]
    fn sums_go_on_when_a_crew_takes_over_and_when_the_old_one_is_gone() {
        let crews = Crews::new(1);
        let first = crews.recruit(2);
        crews.take_over(&first);
        first.workers()[1].ended(ECHO, End::Done, SECOND, SECOND);
        first.workers()[0].started(Started {
            operation: ECHO,
            since: SECOND,
            estimate: SECOND,
            client: ClientKey::Connection(1),
        });
        let second = crews.recruit(1);
        assert_eq!(crews.roster().busy(), 1);
        crews.take_over(&second);
        assert_eq!((crews.roster().current.workers().len(), crews.roster().leaving.len()), (1, 1));
        assert_eq!(crews.roster().busy(), 1, "who finishes a job is seen");
        first.workers()[0].ended(ECHO, End::Done, SECOND, 2 * SECOND);
        second.workers()[0].ended(ECHO, End::Done, SECOND, SECOND);
        assert_eq!(done(&crews), (3, 3, 4 * SECOND));
        assert!(crews.gone(&first));
        assert!(crews.roster().leaving.is_empty());
        assert_eq!(done(&crews), (3, 3, 4 * SECOND));
    }

    #[test]
    fn a_worker_is_free_when_the_first_of_all_that_run_has_taken_its_estimate() {
        let crews = Crews::new(1);
        let crew = crews.recruit(2);
        crews.take_over(&crew);
        let start = |worker: usize, since, estimate| {
            let client = ClientKey::Connection(1);
            crew.workers()[worker].started(Started { operation: ECHO, since, estimate, client });
        };
        start(0, SECOND, 25 * SECOND);
        assert_eq!(crews.roster().free_in(2, 2 * SECOND), Duration::ZERO, "the other one rests");
        start(1, 2 * SECOND, 10 * SECOND);
        assert_eq!(crews.roster().free_in(2, 4 * SECOND), 8 * SECOND);
        assert_eq!(crews.roster().free_in(2, 20 * SECOND), Duration::ZERO, "longer than it was estimated");
    }

    #[test]
    fn a_crew_that_never_took_over_leaves_nothing() {
        let crews = Crews::new(1);
        crews.take_over(&crews.recruit(1));
        let unused = crews.recruit(3);
        unused.workers()[0].ended(ECHO, End::Done, SECOND, SECOND);
        assert!(!crews.gone(&unused));
        assert_eq!(done(&crews), (0, 0, Duration::ZERO));
        assert_eq!(crews.roster().current.workers().len(), 1);
    }
}
