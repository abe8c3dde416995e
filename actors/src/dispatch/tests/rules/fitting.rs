//! What cannot run yet, for memory or for others of its operation, holds up nothing that can.

use super::*;

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
