//! What cannot end in time is not begun.

use super::*;

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
