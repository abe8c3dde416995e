//! Work that nobody waits for any more: withdrawn, cancelled, left behind.

use super::*;

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
