//! Random sequences of submits, stops and runs against an oracle that only counts.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use fastrand::Rng;

use super::*;
use crate::dispatch::{Budget, Failure, Newcomer, ReplyBox};

const WORK_BYTES_MAX: u64 = 1024;

/// What must be true whatever happened: every job is answered once, in the end nothing is held, and never more than
/// the limits runs.
#[test]
fn every_job_is_answered_once_and_nothing_stays_behind() {
    for seed in 0..200 {
        let mut rng = Rng::with_seed(seed);
        let bridge = Bridge::new(2, Budget::new(WORK_BYTES_MAX, 2));
        let settings = settings();
        let mut replies = ReplyBox::default();
        let mut answered: BTreeMap<u64, usize> = BTreeMap::new();
        let mut n_submitted = 0;
        let mut stops = Vec::new();
        let mut boarded = Vec::new();
        for _ in 0..rng.usize(1..40) {
            if rng.bool() && bridge.admission.slots() < 40 {
                let wanted = random_batch(&mut rng, &mut n_submitted);
                let (batch, pending, flags) = batch(&bridge, &settings, &wanted);
                stops.extend(flags);
                replies.expect(pending);
                bridge.submit(batch);
            } else if rng.bool() && !stops.is_empty() {
                cancel(&stops, &mut rng);
            } else {
                run_some(&bridge, &mut rng, &mut boarded);
                land(&bridge, &mut rng, &mut boarded);
            }
            hear(&mut replies, &mut answered);
        }
        while bridge.waiting_jobs() > 0 || !boarded.is_empty() {
            run_some(&bridge, &mut rng, &mut boarded);
            land(&bridge, &mut rng, &mut boarded);
        }
        hear(&mut replies, &mut answered);
        let all: Vec<(u64, usize)> = answered.into_iter().collect();
        assert_eq!(all, (1..=n_submitted).map(|id| (id, 1)).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(
            (bridge.admission.slots(), bridge.admission.held_bytes(), bridge.budget.work_bytes()),
            (0, 0, 0),
            "seed {seed}"
        );
        assert_eq!(bridge.places.awake(), 0, "seed {seed}");
        assert_eq!(bridge.backlog.drains_in(1), Duration::ZERO, "seed {seed}");
        for class in [Class::Interactive, Class::Batch] {
            assert_eq!(bridge.backlog.clients(class), 0, "seed {seed}");
        }
        // Whatever was withdrawn has left: new work counts whole.
        let (batch, _pending, _) =
            batch(&bridge, &settings, &[Wanted { estimate: SECOND, ..Wanted::interactive(1) }]);
        bridge.submit(batch);
        assert_eq!(bridge.backlog.drains_in(1), SECOND.cpu, "seed {seed}");
        bridge.fail_waiting(&Failure::drain_over());
        let _pending: Vec<_> = [1, 2].map(|id| submit_single(&bridge, &settings, id)).into();
        assert_eq!(
            restricted_wait(&bridge, &settings),
            SECOND.cpu,
            "seed {seed}: one of two is about to run"
        );
        bridge.fail_waiting(&Failure::drain_over());
    }
}

fn submit_single(bridge: &Bridge, settings: &Arc<Settings>, id: u64) -> PendingReplies {
    let wanted = Wanted { entry: SINGLE, estimate: SECOND, ..Wanted::interactive(id) };
    let (batch, pending, _) = batch(bridge, settings, &[wanted]);
    bridge.submit(batch);
    pending
}

/// How long another job of the operation of which only one may run would wait, with any number of workers.
fn restricted_wait(bridge: &Bridge, settings: &Settings) -> Duration {
    let newcomer = Newcomer {
        client: &client(bridge, 1),
        class: Class::Interactive,
        cpu: SECOND.cpu,
        restricted: Some((OperationIndex(1), 1)),
        workers: 1000,
        free_in: Duration::ZERO,
        batch_share: settings.queue.batch_share,
        now: Instant::now(),
    };
    bridge.backlog.outlook(&newcomer).wait
}

const SECOND: Estimate = Estimate { cpu: Duration::from_secs(1), ..COSTLESS };

/// Somebody does not wait any more, in one of the ways there are, and perhaps says so twice.
fn cancel(stops: &[StopFlag], rng: &mut Rng) {
    let stop = stops[rng.usize(..stops.len())].clone();
    match rng.u8(..3) {
        0 => stop.raise(),
        1 => drop(stop.raise_before_start()),
        _ => drop(stop.withdraw()),
    }
}

fn random_batch(rng: &mut Rng, n_submitted: &mut u64) -> Vec<Wanted> {
    let class = if rng.bool() { Class::Interactive } else { Class::Batch };
    let alone = rng.bool();
    let n_jobs = if alone { 1 } else { rng.usize(1..8) };
    let entry = if alone && rng.bool() { SINGLE } else { FREE };
    let client = rng.u32(..5);
    let deadline = Duration::from_secs(rng.u64(..2) * 60);
    let work_bytes = if alone { rng.u64(..=WORK_BYTES_MAX) } else { 0 };
    (0..n_jobs)
        .map(|_| {
            *n_submitted += 1;
            let estimate = Estimate {
                cpu: Duration::from_micros(rng.u64(..4000) / n_jobs as u64),
                output_bytes: 0,
                work_bytes,
            };
            Wanted { id: *n_submitted, class, entry, estimate, client, deadline }
        })
        .collect()
}

/// The runs that others wait beside end, with a result for them or without one.
fn land(bridge: &Bridge, rng: &mut Rng, boarded: &mut Vec<Batch>) {
    if rng.bool() {
        return;
    }
    let has_result = rng.bool();
    for mut batch in boarded.drain(..) {
        if has_result {
            answer_all(batch);
        } else {
            batch.unboard(Instant::now());
            bridge.put_back(batch);
        }
    }
}

/// One activation that sometimes answers a part and puts the rest back, sometimes drops what it has, and sometimes
/// leaves a job to the run of another.
fn run_some(bridge: &Bridge, rng: &mut Rng, boarded: &mut Vec<Batch>) {
    if !bridge.places.claim() {
        return;
    }
    let rng = std::cell::RefCell::new(rng);
    bridge.activation(
        |mut batch| {
            assert!(bridge.budget.work_bytes() <= WORK_BYTES_MAX);
            let used = Duration::from_micros(rng.borrow_mut().u64(..8000));
            if batch.len() == 1 && rng.borrow_mut().u8(..5) == 0 {
                batch.board();
                boarded.push(batch);
                return used;
            }
            while let Some(job) = batch.next() {
                batch.answer(done(job));
                let choice = rng.borrow_mut().u8(..10);
                if choice == 0 {
                    return used;
                }
                if choice == 1 && batch.len() > 0 {
                    batch.send_done();
                    bridge.put_back(batch);
                    return used;
                }
            }
            used
        },
        || {},
    );
}

fn hear(replies: &mut ReplyBox, answered: &mut BTreeMap<u64, usize>) {
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(answers) = replies.poll_answers(&mut context) {
        for answer in answers {
            *answered.entry(answer.id).or_default() += 1;
        }
    }
}
