//! The orders in which submitters and workers can meet, with up to three preemptions. Run with
//! `RUSTFLAGS="--cfg windlass_loom" cargo test -p windlass-actors --lib loom`.

use std::sync::atomic::Ordering;

use ::loom::thread;

use super::*;
use crate::dispatch::{Budget, ReplyBox};
use crate::sync::AtomicUsize;

/// The pools, as far as the bridge sees them: whoever has claimed a place runs an activation on some thread of the pool
/// in force at that moment.
struct Pools {
    /// Running, and still to be run: more than these threads loom does not allow beside the two of a test.
    activations: std::sync::Mutex<(Vec<thread::JoinHandle<()>>, Vec<Activation>)>,
    n_threads: std::sync::atomic::AtomicUsize,
    /// The number of the pool in force.
    in_force: AtomicUsize,
    /// How many pools were relieved: those with lower numbers.
    relieved: AtomicUsize,
}

type Activation = Box<dyn FnOnce() + Send>;

/// Activations that run beside each other.
const THREADS_MAX: usize = 3;

impl Pools {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            activations: std::sync::Mutex::default(),
            n_threads: std::sync::atomic::AtomicUsize::new(0),
            in_force: AtomicUsize::new(0),
            relieved: AtomicUsize::new(0),
        })
    }

    /// Another pool, in the same steps as in `cpu/workers.rs`.
    fn take_over(self: &Arc<Self>, bridge: &Arc<Bridge>, workers: usize) {
        bridge.resize(workers, WORK_BYTES_MAX);
        self.in_force.fetch_add(1, Ordering::SeqCst);
        self.relieved.fetch_add(1, Ordering::SeqCst);
        (0..workers).for_each(|_| wake(bridge, self));
    }

    /// Waits until all workers have gone to rest.
    fn rest(&self) {
        loop {
            let (running, queued) = {
                let mut activations = self.activations.lock().unwrap();
                (activations.0.pop(), activations.1.pop())
            };
            if running.is_none() && queued.is_none() {
                return;
            }
            queued.into_iter().for_each(|activation| activation());
            running.into_iter().for_each(|activation| activation.join().unwrap());
        }
    }

    fn spawn(&self, activation: Activation) {
        if self.n_threads.fetch_add(1, Ordering::SeqCst) < THREADS_MAX {
            let activation = thread::spawn(activation);
            self.activations.lock().unwrap().0.push(activation);
        } else {
            self.activations.lock().unwrap().1.push(activation);
        }
    }
}

fn wake(bridge: &Arc<Bridge>, pools: &Arc<Pools>) {
    if bridge.places.claim() {
        let (on, of) = (Arc::clone(bridge), Arc::clone(pools));
        let number = pools.in_force.load(Ordering::SeqCst);
        pools.spawn(Box::new(move || {
            let relieved = || of.relieved.load(Ordering::SeqCst) > number;
            on.activation_until(relieved, answer_all, || wake(&on, &of));
        }));
    }
}

const WORK_BYTES_MAX: u64 = 1024;

/// Submits these jobs, one after the other, to this many workers; when all workers have gone to rest again, all must
/// be answered, and nothing held.
fn nothing_is_left_behind(workers: usize, wanted: &'static [Wanted]) {
    explore(3, move || {
        let bridge = Arc::new(Bridge::new(workers, Budget::new(WORK_BYTES_MAX, 2)));
        let settings = settings();
        let pools = Pools::new();
        let mut replies = ReplyBox::default();
        for wanted in wanted {
            let (batch, pending, _) = batch(&bridge, &settings, &[*wanted]);
            replies.expect(pending);
            bridge.submit(batch);
            wake(&bridge, &pools);
        }
        pools.rest();
        all_answered(&bridge, &mut replies, wanted.len());
    });
}

/// The same while another pool takes over beside the submits.
fn a_takeover_leaves_nothing_behind(workers: usize, workers_then: usize, wanted: &'static [Wanted]) {
    explore(3, move || {
        let bridge = Arc::new(Bridge::new(workers, Budget::new(WORK_BYTES_MAX, 2)));
        let settings = settings();
        let pools = Pools::new();
        let mut replies = ReplyBox::default();
        // Loom lets a sequentially consistent load read the first value of all long after it was replaced; so each
        // counter is written once before anybody else looks.
        bridge.submit(batch(&bridge, &settings, &[LIGHT]).0);
        assert!(bridge.places.claim());
        bridge.activation(answer_all, || {});
        let supervisor = {
            let (bridge, pools) = (Arc::clone(&bridge), Arc::clone(&pools));
            thread::spawn(move || pools.take_over(&bridge, workers_then))
        };
        for wanted in wanted {
            let (batch, pending, _) = batch(&bridge, &settings, &[*wanted]);
            replies.expect(pending);
            bridge.submit(batch);
            wake(&bridge, &pools);
        }
        supervisor.join().unwrap();
        pools.rest();
        all_answered(&bridge, &mut replies, wanted.len());
        assert_eq!(bridge.places.limit(), workers_then);
    });
}

fn explore(preemptions: usize, orders: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(orders);
}

fn all_answered(bridge: &Bridge, replies: &mut ReplyBox, n_jobs: usize) {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..n_jobs {
        assert!(replies.poll_answers(&mut context).is_ready(), "a job was left behind");
    }
    assert_eq!((bridge.places.awake(), bridge.waiting_jobs(), bridge.budget.work_bytes()), (0, 0, 0));
}

const LIGHT: Wanted = Wanted::interactive(1);
const HUNGRY: Wanted = Wanted { estimate: Estimate { work_bytes: 600, ..COSTLESS }, ..LIGHT };

#[test]
fn loom_a_job_submitted_while_the_only_worker_goes_to_rest_is_taken() {
    nothing_is_left_behind(1, &[LIGHT, LIGHT]);
}

#[test]
fn loom_two_workers_leave_nothing_behind() {
    nothing_is_left_behind(2, &[LIGHT, LIGHT]);
}

#[test]
fn loom_a_job_passed_over_for_memory_is_taken_when_the_memory_is_free() {
    nothing_is_left_behind(2, &[HUNGRY, HUNGRY]);
}

#[test]
fn loom_a_job_submitted_while_another_pool_takes_over_is_taken() {
    a_takeover_leaves_nothing_behind(1, 1, &[LIGHT]);
}

#[test]
fn loom_a_pool_of_two_that_takes_over_from_one_leaves_nothing_behind() {
    a_takeover_leaves_nothing_behind(1, 2, &[HUNGRY]);
}

#[test]
fn loom_a_pool_of_one_that_takes_over_from_two_leaves_nothing_behind() {
    a_takeover_leaves_nothing_behind(2, 1, &[LIGHT, LIGHT]);
}

/// Whoever withdraws a job answers it, and so does the worker that starts it.
fn one_of_both_answers(withdraw: fn(&StopFlag) -> bool) {
    explore(3, move || {
        let here = StopFlag::default();
        let there = here.clone();
        let worker = thread::spawn(move || there.start());
        let is_withdrawn = withdraw(&here);
        let is_started = worker.join().unwrap();
        assert!(is_withdrawn != is_started, "withdrawn {is_withdrawn}, started {is_started}");
    });
}

#[test]
fn loom_a_job_that_is_withdrawn_as_a_worker_starts_it_has_one_answer() {
    one_of_both_answers(StopFlag::withdraw);
    one_of_both_answers(StopFlag::raise_before_start);
}
