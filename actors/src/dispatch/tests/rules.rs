//! The rules of the bridge, one by one.

use std::task::{Context, Poll, Waker};

use windlass_protocol::FailureCode;

use super::*;
use crate::dispatch::budget::Shortage;
use crate::dispatch::job::BATCH_JOBS_MAX;
use crate::dispatch::schedule::{Schedule, Taken};
use crate::dispatch::{Budget, Failure, Newcomer, Refusal, ReplyBox};

fn bridge() -> Bridge {
    Bridge::new(2, Budget::new(1000, 2))
}

/// The answers that are there: id, and the code of a failure.
fn heard(replies: &mut ReplyBox) -> Vec<(u64, Option<FailureCode>)> {
    let mut context = Context::from_waker(Waker::noop());
    let mut answers = Vec::new();
    while let Poll::Ready(more) = replies.poll_answers(&mut context) {
        answers.extend(
            more.into_iter().map(|answer| (answer.id, answer.outcome.err().map(|failure| failure.code))),
        );
    }
    answers
}

fn waiting_for(pending: PendingReplies) -> ReplyBox {
    let mut replies = ReplyBox::default();
    replies.expect(pending);
    replies
}

fn three() -> [Wanted; 3] {
    [1, 2, 3].map(Wanted::interactive)
}

#[test]
fn a_batch_that_is_dropped_answers_every_job_and_frees_what_it_held() {
    let bridge = bridge();
    let (mut batch, pending, _) = batch(&bridge, &settings(), &three());
    let mut replies = waiting_for(pending);
    let first = batch.next().unwrap();
    batch.answer(done(first));
    // The second is taken and lost, as by a panic; the third was never taken.
    drop(batch.next().unwrap());
    drop(batch);
    let mut answers = heard(&mut replies);
    answers.sort_unstable_by_key(|(id, _)| *id);
    let lost = Some(FailureCode::INTERNAL);
    assert_eq!(answers, [(1, None), (2, lost), (3, lost)]);
    assert_eq!((bridge.admission.slots(), bridge.admission.held_bytes()), (0, 0));
}

#[test]
fn a_batch_that_takes_long_answers_what_is_done_and_the_rest_later() {
    let bridge = bridge();
    let (mut batch, pending, _) = batch(&bridge, &settings(), &three());
    let mut replies = waiting_for(pending);
    let first = batch.next().unwrap();
    batch.answer(done(first));
    batch.send_done();
    assert_eq!(bridge.admission.slots(), 2, "what is answered has no place any more");
    assert_eq!(heard(&mut replies), [(1, None)]);
    answer_all(batch);
    assert_eq!(bridge.admission.slots(), 0);
    assert_eq!(heard(&mut replies), [(2, None), (3, None)]);
}

#[test]
fn an_answer_keeps_what_its_output_holds_until_it_is_dropped() {
    let bridge = bridge();
    let (batch, pending, _) = batch(&bridge, &settings(), &[Wanted::interactive(1)]);
    let mut replies = waiting_for(pending);
    answer_all(batch);
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(answers) = replies.poll_answers(&mut context) else { panic!("the answer is there") };
    assert_eq!((bridge.admission.slots(), bridge.admission.held_bytes()), (0, 5));
    drop(answers);
    assert_eq!(bridge.admission.held_bytes(), 0);
}

#[test]
fn stop_flags_of_a_batch_are_apart() {
    let bridge = bridge();
    let jobs: Vec<Wanted> = (1..=BATCH_JOBS_MAX as u64).map(Wanted::interactive).collect();
    let (mut batch, _pending, stops) = batch(&bridge, &settings(), &jobs);
    stops[4].raise();
    stops[BATCH_JOBS_MAX - 1].raise();
    let raised: Vec<u64> =
        std::iter::from_fn(|| batch.next()).filter(|job| job.stop.is_raised()).map(|job| job.id).collect();
    assert_eq!(raised, [5, 32]);
}

#[test]
fn heavy_and_limited_jobs_travel_alone() {
    let bridge = bridge();
    let settings = settings();
    let entry = |place: usize| &settings.catalogue.entries()[place];
    let (light, _pending, _) = batch(&bridge, &settings, &[Wanted::interactive(1)]);
    let cost = |estimate: Estimate| Cost { estimate, cpu: estimate.cpu, is_known: false };
    let costless = cost(COSTLESS);
    let heavy = cost(Estimate { cpu: Duration::from_millis(1), ..COSTLESS });
    let hungry = cost(Estimate { work_bytes: 1, ..COSTLESS });
    assert!(light.takes(&costless, entry(FREE)));
    assert!(!light.takes(&heavy, entry(FREE)));
    assert!(!light.takes(&hungry, entry(FREE)));
    assert!(!light.takes(&costless, entry(SINGLE)));
    let (limited, _pending, _) =
        batch(&bridge, &settings, &[Wanted { entry: SINGLE, ..Wanted::interactive(2) }]);
    assert!(!limited.takes(&costless, entry(FREE)));
    let full: Vec<Wanted> = (1..=BATCH_JOBS_MAX as u64).map(Wanted::interactive).collect();
    let (full, _pending, _) = batch(&bridge, &settings, &full);
    assert!(!full.takes(&costless, entry(FREE)));
}

/// Runs an activation that nobody else helps, and says the order of the ids.
fn order(bridge: &Bridge) -> Vec<u64> {
    order_of(bridge, |_, estimated| estimated)
}

/// The same, where a job of this client uses so much time rather than what it was estimated at.
fn order_of(bridge: &Bridge, used: impl Fn(ClientKey, Duration) -> Duration) -> Vec<u64> {
    let mut ids = Vec::new();
    assert!(bridge.places.claim());
    bridge.activation(
        |mut batch| {
            let used = used(batch.client().key, batch.cpu());
            while let Some(job) = batch.next() {
                ids.push(job.id);
                batch.answer(done(job));
            }
            used
        },
        || {},
    );
    ids
}

#[test]
fn within_a_class_the_first_in_is_the_first_out() {
    let bridge = bridge();
    let settings = settings();
    let _pending: Vec<_> = (1..=9)
        .map(|id| {
            let (batch, pending, _) = batch(&bridge, &settings, &[Wanted::interactive(id)]);
            bridge.submit(batch);
            pending
        })
        .collect();
    assert_eq!(order(&bridge), (1..=9).collect::<Vec<u64>>());
    assert_eq!(bridge.places.awake(), 0);
    assert_eq!(bridge.waiting_jobs(), 0);
}

#[test]
fn batch_work_gets_its_share_and_no_more_while_both_classes_wait() {
    let bridge = bridge();
    let settings = settings();
    let millisecond = Estimate { cpu: Duration::from_millis(1), ..COSTLESS };
    let mut pending = Vec::new();
    for id in 1..=28 {
        for (id, class) in [(id, Class::Interactive), (1000 + id, Class::Batch)] {
            let wanted = Wanted { class, estimate: millisecond, ..Wanted::interactive(id) };
            let (batch, replies, _) = batch(&bridge, &settings, &[wanted]);
            bridge.submit(batch);
            pending.push(replies);
        }
    }
    let order = order(&bridge);
    let batch_in_first = order[..32].iter().filter(|id| **id > 1000).count();
    assert!((4..=5).contains(&batch_in_first), "{order:?}");
    assert_eq!(order.len(), 56, "and the rest afterwards");
}

#[test]
fn a_class_that_was_idle_has_saved_nothing_up() {
    let bridge = bridge();
    let settings = settings();
    let second = Estimate { cpu: Duration::from_secs(1), ..COSTLESS };
    let mut pending = Vec::new();
    let mut submit = |id: u64, class| {
        let (batch, replies, _) =
            batch(&bridge, &settings, &[Wanted { class, estimate: second, ..Wanted::interactive(id) }]);
        bridge.submit(batch);
        pending.push(replies);
    };
    (1..=20).for_each(|id| submit(id, Class::Interactive));
    assert_eq!(order(&bridge).len(), 20);
    (1..=8).for_each(|id| submit(id, Class::Interactive));
    (1001..=1008).for_each(|id| submit(id, Class::Batch));
    let order = order(&bridge);
    let batch_in_first = order[..8].iter().filter(|id| **id > 1000).count();
    assert!(batch_in_first <= 2, "{order:?}");
}

/// A job of one class cannot run for ten seconds of the other's work, then its class has a flood that can: what the
/// worker has it do before it comes to the other class.
fn alone_after_being_blocked(class: Class) -> Duration {
    let bridge = bridge();
    let other = if class == Class::Batch { Class::Interactive } else { Class::Batch };
    let settings = settings();
    let mut schedule = Schedule::default();
    let mut pending = Vec::new();
    let mut push = |schedule: &mut Schedule, class, client, cpu, work_bytes| {
        let estimate = Estimate { cpu, work_bytes, ..COSTLESS };
        let wanted = Wanted { class, client, estimate, ..Wanted::interactive(1) };
        let (batch, replies, _) = batch(&bridge, &settings, &[wanted]);
        pending.push(replies);
        schedule.push(batch);
    };
    let take = |schedule: &mut Schedule| {
        let taken = schedule.take(Instant::now(), |batch| match batch.work_bytes() {
            0 => Ok(()),
            _ => Err(Shortage::Memory),
        });
        let Some(Taken::Job(batch, ())) = taken else { panic!("there is work") };
        (batch.class, answer_all(batch))
    };
    push(&mut schedule, class, 1, MS, 1000);
    for _ in 0..1000 {
        push(&mut schedule, other, 2, 10 * MS, 0);
        assert_eq!(take(&mut schedule).0, other, "nothing else can run");
    }
    let mut alone = Duration::ZERO;
    for _ in 0..30 {
        push(&mut schedule, class, 3, 20 * MS, 0);
        push(&mut schedule, other, 2, 20 * MS, 0);
        match take(&mut schedule) {
            (taken, used) if taken == class => alone += used,
            _ => return alone,
        }
    }
    alone
}

#[test]
fn a_class_that_could_not_run_has_saved_little_up() {
    let alone = [Class::Interactive, Class::Batch].map(alone_after_being_blocked);
    assert!(alone.iter().all(|alone| *alone <= 400 * MS), "{alone:?}");
}

#[test]
fn what_does_not_fit_the_memory_left_is_passed_over_and_taken_when_it_does() {
    let bridge = bridge();
    let settings = settings();
    let hungry =
        |id| Wanted { estimate: Estimate { work_bytes: 600, ..COSTLESS }, ..Wanted::interactive(id) };
    let mut pending = Vec::new();
    for wanted in [hungry(1), hungry(2), wanted(1, 3, MS)] {
        let (batch, replies, _) = batch(&bridge, &settings, &[wanted]);
        bridge.submit(batch);
        pending.push(replies);
    }
    assert!(bridge.places.claim());
    let seen = std::cell::RefCell::new(Vec::new());
    let woken = std::cell::Cell::new(0);
    bridge.activation(
        |first| {
            if seen.borrow().is_empty() {
                seen.borrow_mut().push(1);
                woken.set(0);
                assert_eq!(bridge.budget.work_bytes(), 640);
                // A second worker, while the first is at work: only the light job fits.
                assert!(bridge.places.claim());
                bridge.activation(
                    |mut second| {
                        let job = second.next().unwrap();
                        seen.borrow_mut().push(job.id);
                        second.answer(done(job));
                        Duration::ZERO
                    },
                    || {},
                );
            } else {
                seen.borrow_mut().push(2);
            }
            answer_all(first)
        },
        || woken.set(woken.get() + 1),
    );
    assert_eq!(*seen.borrow(), [1, 3, 2]);
    assert_eq!(woken.get(), 1, "whoever frees the memory wakes a worker");
    assert_eq!(bridge.budget.work_bytes(), 0);
}

#[test]
fn an_operation_runs_no_more_jobs_at_once_than_it_may() {
    let bridge = bridge();
    let settings = settings();
    let mut pending = Vec::new();
    for id in [1, 2] {
        let (batch, replies, _) =
            batch(&bridge, &settings, &[Wanted { entry: SINGLE, ..Wanted::interactive(id) }]);
        bridge.submit(batch);
        pending.push(replies);
    }
    assert!(bridge.places.claim());
    let mut n_run = 0;
    bridge.activation(
        |first| {
            n_run += 1;
            assert!(bridge.places.claim());
            bridge.activation(|_| panic!("a second job of the operation"), || {});
            answer_all(first)
        },
        || {},
    );
    assert_eq!(n_run, 2);
}

#[test]
fn a_drain_that_is_over_answers_all_that_waits() {
    let bridge = bridge();
    let settings = settings();
    let mut replies = ReplyBox::default();
    for id in 1..=5 {
        let (batch, pending, _) = batch(&bridge, &settings, &[Wanted::interactive(id)]);
        bridge.submit(batch);
        replies.expect(pending);
    }
    bridge.fail_waiting(&Failure::drain_over());
    let mut answers = heard(&mut replies);
    answers.sort_unstable_by_key(|(id, _)| *id);
    assert_eq!(answers, (1..=5).map(|id| (id, Some(FailureCode::CANCELLED))).collect::<Vec<_>>());
    assert_eq!((bridge.waiting_jobs(), bridge.admission.slots(), bridge.admission.held_bytes()), (0, 0, 0));
}

#[test]
fn a_worker_that_panics_gives_its_place_back_and_wakes_another() {
    let bridge = bridge();
    let (batch, pending, _) = batch(&bridge, &settings(), &[Wanted::interactive(1)]);
    let mut replies = waiting_for(pending);
    bridge.submit(batch);
    assert!(bridge.places.claim());
    let woken = std::cell::Cell::new(0);
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        bridge.activation(|_| panic!("outside an operation"), || woken.set(woken.get() + 1));
    }));
    assert!(ended.is_err());
    assert_eq!((bridge.places.awake(), woken.get()), (0, 1));
    assert_eq!(heard(&mut replies), [(1, Some(FailureCode::INTERNAL))]);
}

#[test]
fn many_that_cannot_run_hide_none_that_can() {
    let bridge = bridge();
    let settings = settings();
    let mut pending = Vec::new();
    let mut submit = |wanted: Wanted| {
        // Slots are not what this is about.
        let (mut batch, replies) = empty_batch(&bridge, &settings, wanted);
        batch.take_slot(&bridge.admission, 1000).unwrap();
        batch.push(admitted(&bridge, wanted), Instant::now());
        bridge.submit(batch);
        pending.push(replies);
    };
    for id in 1..=200 {
        submit(Wanted { entry: SINGLE, ..Wanted::interactive(id) });
    }
    submit(wanted(1, 1000, MS));
    assert!(bridge.places.claim());
    let mut seen = Vec::new();
    bridge.activation(
        |first| {
            if seen.is_empty() {
                assert!(bridge.places.claim());
                bridge.activation(
                    |mut second| {
                        let job = second.next().unwrap();
                        seen.push(job.id);
                        second.answer(done(job));
                        Duration::ZERO
                    },
                    || {},
                );
            }
            answer_all(first)
        },
        || {},
    );
    assert_eq!(seen, [1000], "the second worker runs what it may beside the first");
    assert_eq!(bridge.waiting_jobs(), 0);
}

#[test]
fn of_many_needs_the_next_that_can_run_is_found_in_the_order_of_turns() {
    let bridge = bridge();
    // A line for each need: what fits is light, and stands behind all that does not.
    let needs = (0..60).map(|n| 600 + 7 * n).chain([400, 300]);
    let wanted = needs.enumerate().map(|(n, work_bytes)| {
        let cpu = MS * u32::try_from(n + 1).unwrap();
        let estimate = Estimate { cpu, work_bytes, ..COSTLESS };
        Wanted { estimate, client: 100 + u32::try_from(n).unwrap(), ..Wanted::interactive(n as u64) }
    });
    let _pending = submit_all(&bridge, wanted);
    let seen = std::cell::RefCell::new(Vec::new());
    assert!(bridge.places.claim());
    bridge.activation(
        |batch| {
            if batch.work_bytes() > 600 && seen.borrow().is_empty() {
                assert!(bridge.places.claim());
                let beside = |beside: Batch| {
                    seen.borrow_mut().push(beside.first().unwrap().0.id);
                    answer_all(beside)
                };
                bridge.activation(beside, || {});
            }
            answer_all(batch)
        },
        || {},
    );
    assert_eq!(*seen.borrow(), [61], "what fits beside the first, although it came last");
    assert_eq!(bridge.waiting_jobs(), 0);
}

/// Submits one job for each; keeps what they are answered.
fn submit_all(bridge: &Bridge, wanted: impl IntoIterator<Item = Wanted>) -> Vec<PendingReplies> {
    let settings = settings();
    let submit = |wanted: Wanted| {
        let (mut batch, replies) = empty_batch(bridge, &settings, wanted);
        // Slots are not what this is about.
        batch.take_slot(&bridge.admission, 10_000).unwrap();
        batch.push(admitted(bridge, wanted), Instant::now());
        bridge.submit(batch);
        replies
    };
    wanted.into_iter().map(submit).collect()
}

fn wanted(client: u32, id: u64, cpu: Duration) -> Wanted {
    Wanted { client, estimate: Estimate { cpu, ..COSTLESS }, ..Wanted::interactive(id) }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn clients_share_cpu_time_and_not_turns() {
    let bridge = bridge();
    let short = (0..200).map(|id| wanted(1, id, MS));
    let long = (1000..1002).map(|id| wanted(2, id, 100 * MS));
    let _pending = submit_all(&bridge, short.chain(long));
    let order = order(&bridge);
    let short_before =
        |id: u64| order.iter().take_while(|other| **other != id).filter(|id| **id < 1000).count();
    assert!((95..=100).contains(&short_before(1000)), "{}", short_before(1000));
    assert!((195..=200).contains(&short_before(1001)), "{}", short_before(1001));
}

#[test]
fn what_was_used_counts_not_what_was_estimated() {
    let bridge = bridge();
    let modest = (0..100).map(|id| wanted(1, id, MS));
    let greedy = (1000..1100).map(|id| wanted(2, id, MS));
    let _pending = submit_all(&bridge, modest.chain(greedy));
    let order = order_of(&bridge, |client, cpu| if client == ClientKey::Uid(2) { 4 * cpu } else { cpu });
    let greedy_among_first = order[..50].iter().filter(|id| **id >= 1000).count();
    assert!((9..=12).contains(&greedy_among_first), "{greedy_among_first}");
}

#[test]
fn a_light_job_is_next_whatever_others_have_waiting() {
    let bridge = bridge();
    let heavy =
        (0..64).flat_map(|client| (0..10).map(move |id| wanted(client, 10 * u64::from(client) + id, 5 * MS)));
    let _pending = submit_all(&bridge, heavy.chain([wanted(100, 1000, MS / 100)]));
    assert_eq!(order(&bridge)[0], 1000);
}

#[test]
fn a_light_job_is_next_among_its_own_clients_heavy_ones_too() {
    let bridge = bridge();
    let heavy = (0..100).map(|id| wanted(1, id, 100 * MS));
    let light = (1000..1100).map(|id| wanted(1, id, MS / 100));
    let _pending = submit_all(&bridge, heavy.chain(light));
    let order = order(&bridge);
    assert!(order[..100].iter().all(|id| *id >= 1000));
    assert!(order[100..].is_sorted(), "what is alike stays in order");
}

#[test]
fn clients_who_come_once_and_go_do_not_hold_off_one_who_stays() {
    let bridge = bridge();
    let settings = settings();
    let mut pending = submit_all(&bridge, (0..50).map(|id| wanted(1, id, 5 * MS)));
    assert!(bridge.places.claim());
    let (mut n_passing, mut n_staying) = (0_u64, 0);
    // Behind each that is run another has come, of a client that was never seen before; eight always wait.
    bridge.activation(
        |batch| {
            let staying = batch.client().key == ClientKey::Uid(1);
            n_staying += usize::from(staying);
            if n_staying < 10 && n_passing < 10_000 {
                for _ in 0..if n_passing == 0 { 8 } else { 1 } {
                    n_passing += 1;
                    let passing = wanted(1000 + u32::try_from(n_passing).unwrap(), 1000 + n_passing, 5 * MS);
                    let (mut batch, replies) = empty_batch(&bridge, &settings, passing);
                    batch.take_slot(&bridge.admission, 100_000).unwrap();
                    batch.push(admitted(&bridge, passing), Instant::now());
                    bridge.submit(batch);
                    pending.push(replies);
                }
            }
            answer_all(batch)
        },
        || {},
    );
    assert!(n_passing < 10_000, "ten jobs of the client that stays have had their turn before");
}

#[test]
fn what_nobody_waits_for_is_answered_even_if_it_could_not_run() {
    let bridge = bridge();
    let settings = settings();
    let single = |id| Wanted { entry: SINGLE, ..Wanted::interactive(id) };
    let (running, _running_pending, _) = batch(&bridge, &settings, &[single(1)]);
    let (left, pending, stops) = batch(&bridge, &settings, &[single(2)]);
    bridge.submit(running);
    bridge.submit(left);
    stops[0].raise();
    let mut replies = waiting_for(pending);
    assert!(bridge.places.claim());
    bridge.activation(
        |first| {
            if first.is_lost(Instant::now()) {
                first.fail(&Failure::abandoned());
                return Duration::ZERO;
            }
            assert!(bridge.places.claim());
            bridge.activation(
                |second| {
                    assert!(second.is_lost(Instant::now()), "nothing else may run beside the first");
                    second.fail(&Failure::abandoned());
                    Duration::ZERO
                },
                || {},
            );
            answer_all(first)
        },
        || {},
    );
    assert_eq!(heard(&mut replies), [(2, Some(FailureCode::CANCELLED))]);
}

#[test]
fn work_that_was_withdrawn_makes_nobody_wait() {
    let bridge = bridge();
    let settings = settings();
    let heavy = [1, 2, 3].map(|id| batch(&bridge, &settings, &[wanted(1, id, 1000 * MS)]));
    let (_pending, stops): (Vec<_>, Vec<_>) = heavy
        .into_iter()
        .map(|(batch, pending, stops)| {
            bridge.submit(batch);
            (pending, stops[0].clone())
        })
        .unzip();
    let newcomer = client(&bridge, 2);
    let wait = || {
        bridge
            .backlog
            .outlook(&Newcomer {
                client: &newcomer,
                class: Class::Interactive,
                cpu: 1000 * MS,
                restricted: None,
                workers: 2,
                free_in: Duration::ZERO,
                batch_share: settings.queue.batch_share,
                now: Instant::now(),
            })
            .wait
    };
    assert_eq!(wait(), 500 * MS, "two of the three are about to be taken");
    assert!(stops.iter().all(StopFlag::withdraw));
    assert!(stops.iter().all(StopFlag::raise_before_start), "said twice, counted once");
    assert_eq!(wait(), Duration::ZERO);
    bridge.fail_waiting(&Failure::drain_over());
    assert_eq!(wait(), Duration::ZERO);
}

#[test]
fn work_that_is_withdrawn_while_another_run_does_it_is_not_counted_out_twice() {
    let bridge = bridge();
    let settings = settings();
    let [follower, next] = [1, 2].map(|id| batch(&bridge, &settings, &[wanted(1, id, 1000 * MS)]));
    bridge.submit(follower.0);
    let waits = || bridge.backlog.waiting(Class::Interactive);
    let mut boarded = None;
    assert!(bridge.places.claim());
    bridge.activation(
        |mut batch| {
            batch.board();
            boarded = Some(batch);
            Duration::ZERO
        },
        || {},
    );
    bridge.submit(next.0);
    assert_eq!(waits(), 1000 * MS);
    assert!(follower.2[0].is_boarded());
    assert!(follower.2[0].withdraw(), "it has not been started");
    assert_eq!(waits(), 1000 * MS, "nothing of it waits");
    let mut batch = boarded.unwrap();
    batch.unboard(Instant::now());
    bridge.put_back(batch);
    assert_eq!(waits(), 1000 * MS, "nobody waits for what is back in the queue");
    bridge.fail_waiting(&Failure::drain_over());
    assert_eq!(waits(), Duration::ZERO);
}

#[test]
fn restricted_work_that_was_withdrawn_makes_nobody_wait() {
    let bridge = bridge();
    let settings = settings();
    let single = |id| Wanted { entry: SINGLE, ..wanted(1, id, 1000 * MS) };
    let hungry = |id| {
        let estimate = Estimate { cpu: 1000 * MS, work_bytes: 600, ..COSTLESS };
        Wanted { estimate, ..Wanted::interactive(id) }
    };
    for (operation, likes) in [(SINGLE, [1, 2, 3, 4].map(single)), (FREE, [1, 2, 3, 4].map(hungry))] {
        let mut pending = Vec::new();
        let stops = likes.map(|like| {
            let (batch, replies, stops) = batch(&bridge, &settings, &[like]);
            bridge.submit(batch);
            pending.push(replies);
            stops[0].clone()
        });
        let newcomer = client(&bridge, 1);
        let wait = || {
            bridge
                .backlog
                .outlook(&Newcomer {
                    client: &newcomer,
                    class: Class::Interactive,
                    cpu: 1000 * MS,
                    restricted: Some((OperationIndex(u16::try_from(operation).unwrap()), 1)),
                    workers: 8,
                    free_in: Duration::ZERO,
                    batch_share: settings.queue.batch_share,
                    now: Instant::now(),
                })
                .wait
        };
        assert_eq!(wait(), 3000 * MS, "the first of the four is about to be taken");
        stops[0].raise();
        stops[1].raise();
        assert_eq!(wait(), 1000 * MS, "the first of the two that are left is about to be taken");
        stops[2].raise();
        stops[3].raise();
        assert_eq!(wait(), Duration::ZERO);
        bridge.fail_waiting(&Failure::drain_over());
        assert_eq!(wait(), Duration::ZERO);
    }
}

#[test]
fn a_client_that_cancelled_much_does_not_fall_behind_for_it() {
    let bridge = bridge();
    let settings = settings();
    // All of one client: what it gives up is what it has least of afterwards.
    let mut pending = Vec::new();
    let mut submit = |wanted: Wanted| {
        let (mut batch, replies) = empty_batch(&bridge, &settings, wanted);
        batch.take_slot(&bridge.admission, 10_000).unwrap();
        let stop = batch.push(admitted(&bridge, wanted), Instant::now());
        bridge.submit(batch);
        pending.push(replies);
        stop
    };
    let cancelled: Vec<_> = (1..=50).map(|id| submit(wanted(1, id, 100 * MS))).collect();
    let _long = submit(wanted(1, 1000, 100 * MS));
    (2001..=2500).for_each(|id| drop(submit(wanted(1, id, MS / 2))));
    cancelled.iter().for_each(StopFlag::raise);
    let order = order(&bridge);
    let short_before = order.iter().take_while(|id| **id != 1000).filter(|id| **id > 2000).count();
    assert!((195..=201).contains(&short_before), "{short_before} of 0.5 ms before one of 100 ms");
}

#[test]
fn what_was_put_back_is_charged_once() {
    let bridge = bridge();
    let mut pending = submit_all(&bridge, [wanted(1, 1, MS / 2)]);
    pending.extend(submit_all(&bridge, (1000..1020).map(|id| wanted(1, id, 2 * MS))));
    pending.extend(submit_all(&bridge, (2..=40).map(|id| wanted(1, id, MS / 2))));
    assert!(bridge.places.claim());
    let (mut n_put_back, mut order) = (0, Vec::new());
    bridge.activation(
        |batch| {
            let (job, _) = batch.first().unwrap();
            if job.id == 1 && n_put_back < 10 {
                n_put_back += 1;
                bridge.put_back(batch);
                return Duration::ZERO;
            }
            order.push(job.id);
            answer_all(batch)
        },
        || {},
    );
    let short_before = order.iter().take_while(|id| **id < 1000).count();
    assert_eq!(short_before, 4, "as much as the first long one: {order:?}");
}

#[test]
fn a_job_that_cannot_end_in_time_is_given_up_before_it_is_started() {
    let bridge = bridge();
    let hopeless = Wanted { deadline: 100 * MS, ..wanted(1, 1, 200 * MS) };
    let just_so = Wanted { deadline: 200 * MS, ..wanted(1, 2, 200 * MS) };
    let _pending = submit_all(&bridge, [hopeless, just_so]);
    let mut lost = Vec::new();
    assert!(bridge.places.claim());
    bridge.activation(
        |batch| {
            lost.push(batch.is_lost(Instant::now()));
            answer_all(batch)
        },
        || {},
    );
    assert_eq!(lost, [true, false]);
}

/// A client of which much waits, others who come and hardly wait, and somebody whose turn is far off and who cannot be in
/// time any more.
#[test]
fn in_a_queue_that_stands_the_hopeless_go_first() {
    let bridge = bridge();
    let settings = settings();
    let mut schedule = Schedule::default();
    let (start, mut pending) = (Instant::now(), Vec::new());
    let mut push = |schedule: &mut Schedule, client_of: u32, deadline: Duration, queued_at| {
        let wanted = Wanted { deadline, ..wanted(client_of, 1, 10 * MS) };
        let (mut batch, replies) = empty_batch(&bridge, &settings, wanted);
        batch.take_slot(&bridge.admission, 64).unwrap();
        batch.push(admitted(&bridge, wanted), queued_at);
        pending.push(replies);
        bridge.backlog.batch_enters(&batch);
        schedule.push(batch);
    };
    let far_off = client(&bridge, 2);
    far_off.set_next(Class::Interactive, 10_000_000_000);
    (0..40).for_each(|_| push(&mut schedule, 1, 60_000 * MS, start));
    push(&mut schedule, 2, Duration::ZERO, start);
    let mut now = start + 300 * MS;
    for n_taken in 0.. {
        if n_taken % 4 == 0 {
            push(&mut schedule, 3, 60_000 * MS, now);
        }
        now += 10 * MS;
        let taken = schedule.take(now, |_| Ok(())).expect("there is work");
        let (Taken::Job(batch, ()) | Taken::Lost(batch)) = &taken;
        bridge.backlog.batch_leaves(batch);
        if let Taken::Lost(batch) = taken {
            assert_eq!(batch.client().key, far_off.key);
            assert!((9..20).contains(&n_taken), "after {n_taken} of 40 and those of others");
            return;
        }
    }
}

#[test]
fn what_nobody_waits_for_is_found_behind_what_somebody_does() {
    let bridge = bridge();
    let settings = settings();
    let mut stops = Vec::new();
    let mut pending = Vec::new();
    for id in 1..=9 {
        let of = u32::try_from(id % 3).unwrap();
        let (batch, replies, flags) = batch(&bridge, &settings, &[wanted(of, id, MS)]);
        pending.push(replies);
        stops.extend(flags);
        bridge.submit(batch);
    }
    // One who looks moves them into the schedule.
    assert!(bridge.oldest_waiting(Instant::now()).is_some());
    assert!(bridge.take_abandoned().is_empty());
    for place in [0, 3, 4, 7, 5] {
        stops[place].raise();
    }
    let mut taken: Vec<u64> = bridge
        .take_abandoned()
        .into_iter()
        .map(|batch| {
            let id = batch.first().unwrap().0.id;
            batch.fail(&Failure::abandoned());
            id
        })
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [1, 4, 5, 6, 8]);
    assert_eq!((bridge.waiting_jobs(), bridge.admission.slots(), bridge.admission.held_bytes()), (4, 4, 20));
    assert_eq!(bridge.backlog.waiting(Class::Interactive), 4 * MS);
    let mut left = order(&bridge);
    left.sort_unstable();
    assert_eq!(left, [2, 3, 7, 9], "and all others are run");
}

/// Whoever is gone does not make room for another beside its work.
#[test]
fn what_runs_for_nobody_keeps_its_slot_and_its_memory_until_it_ends() {
    let bridge = bridge();
    let settings = settings();
    let needs = |id| Wanted { estimate: Estimate { work_bytes: 768, ..COSTLESS }, ..wanted(1, id, MS) };
    let (batch_1, pending_1, stops) = batch(&bridge, &settings, &[needs(1)]);
    let (batch_2, pending_2, _) = batch(&bridge, &settings, &[needs(2)]);
    bridge.submit(batch_1);
    bridge.submit(batch_2);
    let mut n_run = 0;
    assert!(bridge.places.claim());
    bridge.activation(
        |mut batch| {
            n_run += 1;
            let job = batch.next().unwrap();
            assert!(job.stop.start());
            if n_run == 1 {
                stops[0].raise();
                assert_eq!((bridge.admission.slots(), bridge.budget.work_bytes()), (2, 768));
                assert!(bridge.places.claim(), "the other worker");
                bridge.activation(|_| panic!("there is no memory for another"), || {});
                assert_eq!(bridge.admission.enter(2).map(drop), Err(Refusal::Slots { limit: 2 }));
            }
            batch.answer(done(job));
            drop(batch);
            MS
        },
        || {},
    );
    drop((pending_1, pending_2));
    assert_eq!((n_run, bridge.admission.slots(), bridge.budget.work_bytes()), (2, 0, 0));
}

#[test]
fn what_is_known_to_take_longer_than_is_left_is_not_started_in_vain() {
    let bridge = bridge();
    let wanted = Wanted { deadline: 8000 * MS, ..wanted(1, 1, 5000 * MS) };
    let is_lost = |cpu: Duration, is_known: bool| {
        let (mut batch, _pending) = empty_batch(&bridge, &settings(), wanted);
        batch.take_slot(&bridge.admission, 64).unwrap();
        let request = admitted(&bridge, wanted);
        let cost = Cost { cpu, is_known, ..request.cost };
        batch.push(Admitted { cost, ..request }, Instant::now());
        batch.is_lost(Instant::now())
    };
    assert!(!is_lost(10_000 * MS, false), "the operation says that it takes less");
    assert!(is_lost(10_000 * MS, true));
    assert!(!is_lost(8500 * MS, true), "such jobs differ");
}

#[test]
fn a_few_light_batches_are_taken_as_they_came_and_many_are_shared() {
    let place_of_the_last = |n_before: u64, cpu: Duration| {
        let bridge = bridge();
        let others = (1..=n_before).map(|id| wanted(1, id, cpu));
        let _pending = submit_all(&bridge, others.chain([wanted(2, 1000, cpu)]));
        order(&bridge).iter().position(|id| *id == 1000).unwrap()
    };
    let light = MS / 100;
    let bridge = bridge();
    let batch = (1..=5).map(|id| Wanted { class: Class::Batch, ..wanted(1, id, light) });
    let _pending = submit_all(&bridge, batch.chain([wanted(2, 1000, light)]));
    assert_eq!(order(&bridge)[0], 1000, "interactive work goes first all the same");
    assert_eq!(place_of_the_last(20, light), 20, "nobody waits for long");
    assert!(place_of_the_last(500, light) <= 1);
    assert!(place_of_the_last(20, MS) <= 1, "these are not light");
}
