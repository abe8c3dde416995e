//! What needs memory and what does not, against an oracle that sees what every look finds, on a clock of its own.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;
use crate::dispatch::Budget;
use crate::dispatch::budget::{RunPermit, Shortage};
use crate::dispatch::job::Need;
use crate::dispatch::schedule::{Schedule, Settlement, Taken};

const MS: Duration = Duration::from_millis(1);
const MEMORY: u64 = 1024;
const N_WORKERS: usize = 4;
/// The most that a job may be passed over, as the schedule promises it.
const PATIENCE: Duration = Duration::from_millis(100);

/// A schedule and workers that only keep what their jobs occupy until the time is over.
struct World {
    bridge: Bridge,
    settings: Arc<Settings>,
    schedule: Schedule,
    now: Instant,
    n_jobs: u64,
    waiting: BTreeMap<u64, Line>,
    running: Vec<Run>,
    stops: Vec<StopFlag>,
    /// The oracle: since when work of a line has been passed over.
    passed_over: BTreeMap<String, (Instant, Line)>,
    _pending: Vec<PendingReplies>,
}

/// What is equal for all that can only run alike.
#[derive(Clone, Copy)]
struct Line {
    class: Class,
    need: Need,
}

impl Line {
    fn name(&self) -> String {
        format!("{:?}", (self.class, self.need.concurrency, self.need.work_bytes))
    }
}

struct Run {
    line: Line,
    until: Instant,
    cpu: Duration,
    settlement: Settlement,
    permit: RunPermit,
}

impl World {
    fn new() -> Self {
        Self {
            bridge: Bridge::new(N_WORKERS, Budget::new(MEMORY, 2)),
            settings: settings(),
            schedule: Schedule::default(),
            now: Instant::now(),
            n_jobs: 0,
            waiting: BTreeMap::new(),
            running: Vec::new(),
            stops: Vec::new(),
            passed_over: BTreeMap::new(),
            _pending: Vec::new(),
        }
    }

    /// A job comes; its id.
    fn comes(&mut self, mut wanted: Wanted) -> u64 {
        self.n_jobs += 1;
        wanted.id = self.n_jobs;
        let (mut batch, pending) = empty_batch(&self.bridge, &self.settings, wanted);
        batch.take_slot(&self.bridge.admission, 1_000_000).unwrap();
        let mut request = admitted(&self.bridge, wanted);
        // What it holds is not what this is about.
        request.held.shrink_to(0);
        self.stops.push(batch.push(request, self.now));
        self._pending.push(pending);
        self.waiting.insert(wanted.id, Line { class: wanted.class, need: batch.need() });
        self.schedule.push(batch);
        wanted.id
    }

    fn n_waiting(&self, like: impl Fn(&Line) -> bool) -> usize {
        self.waiting.values().filter(|line| like(line)).count()
    }

    /// Work that has lasted for long enough ends.
    fn end(&mut self) {
        let now = self.now;
        for run in self.running.extract_if(.., |run| run.until <= now) {
            self.schedule.settle(&run.settlement, run.cpu);
            drop(run.permit);
        }
    }

    /// Every idle worker looks. Says what was taken to be run.
    fn work(&mut self) -> Vec<u64> {
        let mut taken = Vec::new();
        while self.running.len() < N_WORKERS {
            let could = self.schedule.any(self.now, |batch| self.bridge.budget.fits(batch));
            let mut refused = Vec::new();
            let budget = &self.bridge.budget;
            let found = self.schedule.take(self.now, |batch| {
                budget.try_reserve(batch).inspect_err(|shortage| {
                    if *shortage == Shortage::Memory {
                        refused.push(Line { class: batch.class, need: batch.need() });
                    }
                })
            });
            assert_eq!(
                could,
                found.is_some(),
                "whoever rests must not believe that there is something to do"
            );
            match found {
                Some(Taken::Job(batch, permit)) => {
                    let id = self.takes(batch, permit, &refused);
                    taken.push(id);
                }
                Some(Taken::Lost(mut batch)) => {
                    self.leaves(batch.first().unwrap().0.id);
                    drop(batch.next());
                }
                None => {
                    self.rests();
                    break;
                }
            }
        }
        taken
    }

    /// The oracle's opinion on what is taken.
    fn takes(&mut self, batch: Batch, permit: RunPermit, refused: &[Line]) -> u64 {
        let id = batch.first().unwrap().0.id;
        let line = self.waiting[&id];
        if line.need.work_bytes > 0 {
            if let Some(oldest) = self.claims().min() {
                let mine = self.passed_over.get(&line.name()).map(|(since, _)| *since);
                assert_eq!(mine, Some(oldest), "overtakes what was passed over for long enough");
            }
            self.passed_over.remove(&line.name());
            for short in refused {
                self.passed_over.entry(short.name()).or_insert((self.now, *short));
            }
        }
        let (settlement, cpu) = (Settlement::of(&batch), batch.cpu());
        self.running.push(Run { line, until: self.now + cpu, cpu, settlement, permit });
        self.leaves(id);
        answer_all(batch);
        id
    }

    fn leaves(&mut self, id: u64) {
        let line = self.waiting.remove(&id).unwrap().name();
        if !self.waiting.values().any(|other| other.name() == line) {
            self.passed_over.remove(&line);
        }
    }

    /// Since when those have been passed over that must not be any more and that memory could help.
    fn claims(&self) -> impl Iterator<Item = Instant> {
        let runs_single = self.runs_single();
        let helped = move |line: &Line| line.need.concurrency.is_none() || !runs_single;
        let due = self
            .passed_over
            .values()
            .filter(move |(since, line)| self.now - *since >= PATIENCE && helped(line));
        due.map(|(since, _)| *since)
    }

    fn runs_single(&self) -> bool {
        self.running.iter().any(|run| run.line.need.concurrency.is_some())
    }

    /// A worker that rests leaves nothing that it could have run.
    fn rests(&self) {
        let runs_single = self.runs_single();
        let used = self.bridge.budget.work_bytes();
        for (id, Line { need, .. }) in &self.waiting {
            let fits = (need.concurrency.is_none() || !runs_single)
                && (need.work_bytes == 0 || used == 0 || used + need.work_bytes <= MEMORY);
            let is_held_back = need.work_bytes > 0 && self.claims().next().is_some();
            assert!(!fits || is_held_back, "{id} waits while a worker is idle");
        }
    }
}

fn needs(work_bytes: u64, cpu: Duration) -> Wanted {
    Wanted { estimate: Estimate { cpu, work_bytes, ..COSTLESS }, ..Wanted::interactive(0) }
}

#[test]
fn nothing_that_needs_memory_overtakes_for_long_and_nothing_that_needs_none_waits_for_it() {
    for seed in 0..30 {
        let mut rng = Rng::with_seed(seed);
        let mut world = World::new();
        let (mut n_large, mut n_claims) = (0, 0);
        for _ in 0..3000 {
            world.now += MS;
            world.end();
            let comes = |world: &mut World, rng: &mut Rng, work_bytes: u64, cpu: Duration| {
                let class = if rng.bool() { Class::Interactive } else { Class::Batch };
                let entry = if rng.u8(..8) == 0 { SINGLE } else { FREE };
                let client = rng.u32(..5);
                world.comes(Wanted { class, client, entry, ..needs(work_bytes, cpu) })
            };
            while world.n_waiting(|line| (1..=320).contains(&line.need.work_bytes)) < 4 {
                let cpu = MS * rng.u32(5..40);
                let work_bytes = [128, 192, 256, 320][rng.usize(..4)];
                comes(&mut world, &mut rng, work_bytes, cpu);
            }
            if rng.u8(..20) == 0 && world.n_waiting(|line| line.need.work_bytes > 320) < 3 {
                let cpu = MS * rng.u32(5..40);
                let work_bytes = [640, 768, 896, 1024][rng.usize(..4)];
                comes(&mut world, &mut rng, work_bytes, cpu);
                n_large += 1;
            }
            if rng.bool() && world.n_waiting(|line| line.need.work_bytes == 0) < 4 {
                let cpu = MS / 10 * rng.u32(1..30);
                comes(&mut world, &mut rng, 0, cpu);
            }
            if rng.u8(..50) == 0 {
                world.stops[rng.usize(..world.stops.len())].raise();
            }
            n_claims += usize::from(world.claims().next().is_some());
            world.work();
        }
        assert!(n_large > 20 && n_claims > 100, "seed {seed} tries nothing: {n_large} and {n_claims}");
    }
}

#[test]
fn a_job_that_needs_much_memory_runs_soon_whatever_needs_less_of_it() {
    const LONGEST: Duration = Duration::from_millis(30);
    let mut world = World::new();
    let large = Wanted { class: Class::Batch, client: 100, ..needs(1024, MS) };
    let mut came_at = None;
    let mut overtaken_by = 0;
    loop {
        world.now += MS;
        world.end();
        while world.n_waiting(|line| line.need.work_bytes > 0) < 5 {
            let cpu = LONGEST - MS * u32::try_from(world.n_jobs % 7).unwrap();
            world.comes(Wanted { client: u32::try_from(world.n_jobs % 3).unwrap(), ..needs(256, cpu) });
        }
        if came_at.is_none() && world.running.len() == N_WORKERS {
            came_at = Some((world.comes(large), world.now));
        }
        let taken = world.work();
        let Some((id, at)) = came_at else { continue };
        let waited = world.now - at;
        if taken.contains(&id) {
            assert!(overtaken_by > 5, "it was passed over at first, so that the memory is used");
            break;
        }
        overtaken_by += taken.len();
        // Until it is its class's turn, until it has been passed over for long enough, until what runs has ended.
        assert!(waited <= 8 * LONGEST + PATIENCE + LONGEST, "it has waited for {waited:?}");
    }
}

#[test]
fn as_many_are_woken_as_fit_the_memory() {
    let bridge = Bridge::new(N_WORKERS, Budget::new(MEMORY, 2));
    let settings = settings();
    let pending: Vec<_> = (1..=3)
        .map(|id| {
            let (batch, pending, _) = batch(&bridge, &settings, &[Wanted { id, ..needs(256, MS) }]);
            bridge.submit(batch);
            pending
        })
        .collect();
    // Only one worker was woken, as by the end of a job that had all of the memory.
    assert!(bridge.places.claim());
    let used_most = std::cell::Cell::new(0);
    activation(&bridge, &used_most);
    assert_eq!(used_most.get(), 3 * 256, "each that takes one of them wakes the next");
    assert_eq!(bridge.places.awake(), 0);
    drop(pending);
}

/// A worker that is woken runs beside the one who wakes it.
fn activation(bridge: &Bridge, used_most: &std::cell::Cell<u64>) {
    bridge.activation(
        |batch| {
            used_most.set(used_most.get().max(bridge.budget.work_bytes()));
            answer_all(batch)
        },
        || {
            if bridge.places.claim() {
                activation(bridge, used_most);
            }
        },
    );
}
