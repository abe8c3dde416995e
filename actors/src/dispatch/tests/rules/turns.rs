//! Whose turn it is: classes, clients, and who is light.

use super::*;

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
