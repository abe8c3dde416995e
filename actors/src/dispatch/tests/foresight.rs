//! What is foreseen at admission against what comes, in a time of its own: random clients ask for more than can be done
//! until somebody is refused, then the load stops, and the same is asked again until it comes in.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::*;
use crate::dispatch::client::Bid;
use crate::dispatch::job::Occupied;
use crate::dispatch::schedule::Taken;
use crate::dispatch::{Budget, Failure, Newcomer};

const WORKERS: usize = 2;
const WAIT_MAX: Duration = Duration::from_millis(800);

/// Two workers and what they run, with a clock that a test moves.
struct House {
    bridge: Bridge,
    settings: Arc<Settings>,
    started_at: Instant,
    now: Duration,
    running: Vec<(Duration, Batch)>,
    /// What waits and is wanted, in the order in which it came.
    wanted: BTreeMap<u64, (StopFlag, Duration)>,
    replies: Vec<PendingReplies>,
    n_asked: u64,
}

/// What somebody asks for.
#[derive(Clone)]
struct Wish {
    client: Arc<Client>,
    number: u32,
    cpu: Duration,
}

impl House {
    fn new() -> Self {
        let bridge = Bridge::new(WORKERS, Budget::new(1 << 20, 2));
        let (running, wanted, replies) = Default::default();
        let (started_at, now) = (Instant::now(), Duration::ZERO);
        Self { bridge, settings: settings(), started_at, now, running, wanted, replies, n_asked: 0 }
    }

    fn wish(&self, number: u32, cpu: Duration) -> Wish {
        Wish { client: client(&self.bridge, number), number, cpu }
    }

    fn newcomer<'a>(&self, wish: &'a Wish) -> Newcomer<'a> {
        Newcomer {
            client: &wish.client,
            class: Class::Interactive,
            cpu: wish.cpu,
            restricted: None,
            workers: WORKERS,
            free_in: self.free_in(),
            batch_share: self.settings.queue.batch_share,
            now: self.started_at + self.now,
        }
    }

    /// Comes in, or is told after what time it may.
    fn ask(&mut self, wish: &Wish) -> Result<(), Duration> {
        let now = self.started_at + self.now;
        let newcomer = self.newcomer(wish);
        let outlook = self.bridge.backlog.outlook(&newcomer);
        if let Some(most) = self.bridge.backlog.wait_at_most(&newcomer) {
            assert!(outlook.wait <= most, "{outlook:?} is longer than the bound, {most:?}");
        }
        let class = Class::Interactive;
        wish.client.may_wait(&Bid { class, outlook: &outlook, wait_max: WAIT_MAX, now })?;
        self.n_asked += 1;
        let estimate = Estimate { cpu: wish.cpu, ..COSTLESS };
        let wanted = Wanted { client: wish.number, estimate, ..Wanted::interactive(self.n_asked) };
        let (mut batch, pending) = empty_batch(&self.bridge, &self.settings, wanted);
        batch.take_slot(&self.bridge.admission, usize::MAX).unwrap();
        let held = crate::dispatch::HeldBytes::unbounded();
        let stop = batch.push(Admitted { held, ..admitted(&self.bridge, wanted) }, Instant::now());
        self.wanted.insert(wanted.id, (stop, wish.cpu));
        self.replies.push(pending);
        self.bridge.submit(batch);
        self.fill();
        Ok(())
    }

    /// When the first worker is free.
    fn free_in(&self) -> Duration {
        let left = self.running.iter().map(|(until, _)| *until - self.now);
        if self.running.len() < WORKERS { Duration::ZERO } else { left.min().unwrap_or_default() }
    }

    /// Idle workers take what waits.
    fn fill(&mut self) {
        while self.running.len() < WORKERS
            && let Some(taken) = self.bridge.take(&mut None)
        {
            let (mut batch, permit) = match taken {
                Taken::Job(batch, permit) => (batch, permit),
                Taken::Lost(batch) => {
                    batch.fail(&Failure::abandoned());
                    continue;
                }
            };
            let (job, _) = batch.first().unwrap();
            assert!(self.wanted.remove(&job.id).is_some(), "what nobody waits for is not run");
            let running = self.bridge.backlog.runs(&batch);
            let until = self.now + batch.cpu();
            batch.occupy(Occupied { _permit: permit, running });
            self.running.push((until, batch));
        }
    }

    /// When a job that came now would begin, if those who are here were served as they came.
    fn begins_in(&self) -> Duration {
        let mut free: Vec<Duration> = self.running.iter().map(|(until, _)| *until - self.now).collect();
        free.resize(WORKERS, Duration::ZERO);
        for (_, cpu) in self.wanted.values() {
            free.sort_unstable();
            free[0] += *cpu;
        }
        free.into_iter().min().unwrap_or_default()
    }

    /// Somebody does not wait any more: cancelled, gone, or at the deadline.
    fn give_up(&mut self, rng: &mut Rng) {
        let Some(id) = rng.choice(self.wanted.keys().copied().collect::<Vec<u64>>()) else { return };
        let (stop, _) = self.wanted.remove(&id).unwrap();
        match rng.bool() {
            true => stop.raise(),
            false => assert!(stop.withdraw(), "it waits"),
        }
    }

    /// Until the next job ends, or for so long.
    fn pass(&mut self, most: Duration) {
        let until = self.now + most;
        let next = (0..self.running.len()).min_by_key(|place| self.running[*place].0);
        match next.filter(|place| self.running[*place].0 <= until) {
            Some(place) => {
                let (ended, batch) = self.running.swap_remove(place);
                self.now = ended;
                answer_all(batch);
                self.fill();
            }
            None => self.now = until,
        }
    }

    /// Time until this comes in, from now on, asked again and again.
    fn truth(&mut self, mut wish: impl FnMut(&Self) -> Wish) -> Duration {
        let since = self.now;
        loop {
            self.pass(Duration::from_millis(1));
            let wish = wish(self);
            if self.ask(&wish).is_ok() {
                return self.now - since;
            }
        }
    }
}

/// Within a factor of two, but for what a job or two may be off.
fn assert_true(told: Duration, truth: Duration, longest_job: Duration, what: &str) {
    let off = told.abs_diff(truth);
    assert!(
        off <= told.max(truth) / 2 + longest_job,
        "{what}: told {told:?}, came in after {truth:?}, jobs of up to {longest_job:?}"
    );
}

/// What one of the clients asks for, as long as the load goes on.
type Chooser<'a> = &'a mut dyn FnMut(&mut Rng, &House) -> Wish;

/// Asks for four times of what can be done until a refusal, not the first; says it and what it told.
fn refusal(house: &mut House, rng: &mut Rng, choose: Chooser<'_>) -> (Wish, Duration) {
    let mut n_passed_over = rng.u32(..20);
    loop {
        let wish = choose(rng, house);
        if let Err(told) = house.ask(&wish) {
            if n_passed_over == 0 {
                return (wish, told);
            }
            n_passed_over -= 1;
        }
        let pause = wish.cpu / (4 * u32::try_from(WORKERS).unwrap());
        let until = house.now + pause;
        while house.now < until {
            house.pass(until - house.now);
        }
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn what_is_told_is_true_for_equal_clients() {
    for seed in 0..50 {
        let mut rng = Rng::with_seed(seed);
        let mut house = House::new();
        let n_clients = rng.u32(1..40);
        let cpu = MS * rng.u32(1..30);
        let all: Vec<Wish> = (0..n_clients).map(|number| house.wish(number, cpu)).collect();
        let (wish, told) = refusal(&mut house, &mut rng, &mut |rng, _| all[rng.usize(..all.len())].clone());
        let truth = house.truth(|_| wish.clone());
        assert_true(told, truth, cpu, &format!("seed {seed}, {n_clients} clients"));
    }
}

#[test]
fn what_is_told_is_true_for_an_importer_beside_light_clients() {
    for seed in 0..50 {
        let mut rng = Rng::with_seed(seed);
        let mut house = House::new();
        let heavy = MS * rng.u32(5..30);
        let importer = house.wish(0, heavy);
        let lights: Vec<Wish> = (1..11).map(|number| house.wish(number, MS)).collect();
        let mut choose = |rng: &mut Rng, _: &House| match rng.u8(..3) {
            0 => importer.clone(),
            _ => lights[rng.usize(..lights.len())].clone(),
        };
        let (wish, told) = refusal(&mut house, &mut rng, &mut choose);
        assert_eq!(wish.number, 0, "seed {seed}: a light client is never refused");
        let truth = house.truth(|_| wish.clone());
        assert_true(told, truth, heavy, &format!("seed {seed}"));
    }
}

#[test]
fn what_is_told_is_true_for_those_who_come_by_a_new_connection_each_time() {
    for seed in 0..50 {
        let mut rng = Rng::with_seed(seed);
        let mut house = House::new();
        let cpu = MS * rng.u32(1..30);
        let mut number = 0;
        let mut stranger = |house: &House| {
            number += 1;
            house.wish(number, cpu)
        };
        let (_, told) = refusal(&mut house, &mut rng, &mut |_, house| stranger(house));
        let truth = house.truth(|house| stranger(house));
        assert_true(told, truth, cpu, &format!("seed {seed}"));
    }
}

#[test]
fn what_is_admitted_by_its_own_client_alone_begins_within_the_time_that_was_foreseen() {
    for seed in 0..20 {
        let mut rng = Rng::with_seed(seed);
        let mut house = House::new();
        let importer = house.wish(0, MS * rng.u32(1..30));
        refusal(&mut house, &mut rng, &mut |_, _| importer.clone());
        let since = house.now;
        while house.bridge.waiting_jobs() > 0 {
            house.pass(WAIT_MAX);
        }
        assert!(house.now - since <= WAIT_MAX + importer.cpu, "seed {seed}: {:?}", house.now - since);
    }
}

/// Arrivals, completions, cancels and expiries as they come: what is counted is what waits, and what is foreseen for the
/// only client is what comes of it.
#[test]
fn whatever_happens_the_wait_of_the_only_client_is_foreseen() {
    for seed in 0..50 {
        let mut rng = Rng::with_seed(seed);
        let mut house = House::new();
        let most = rng.u32(2..30);
        for _ in 0..400 {
            let wish = house.wish(0, MS * rng.u32(1..most));
            match rng.u8(..8) {
                0..4 => drop(house.ask(&wish)),
                4 => house.give_up(&mut rng),
                _ => house.pass(MS * rng.u32(..20)),
            }
            let waits: Duration = house.wanted.values().map(|(_, cpu)| *cpu).sum();
            assert_eq!(house.bridge.backlog.waiting(Class::Interactive), waits, "seed {seed}");
            let outlook = house.bridge.backlog.outlook(&house.newcomer(&wish));
            let off = outlook.wait.abs_diff(house.begins_in());
            assert!(off <= MS * most, "seed {seed}: {outlook:?}, not {:?}", house.begins_in());
        }
        while !house.running.is_empty() {
            house.pass(WAIT_MAX);
        }
        let admission = &house.bridge.admission;
        assert_eq!((admission.slots(), house.bridge.waiting_jobs(), house.wanted.len()), (0, 0, 0));
        assert_eq!(house.bridge.backlog.drains_in(1), Duration::ZERO, "seed {seed}");
    }
}
