use std::sync::Arc;

use super::*;
use crate::dispatch::ClientKey;

const MS: Duration = Duration::from_millis(1);

/// Of a daemon whose two workers run something.
fn backlog() -> Arc<Backlog> {
    let backlog = Backlog::new(1);
    backlog.counts.batches.running.store(2, Ordering::Relaxed);
    backlog.counts.running.store(nanos(200 * MS), Ordering::Relaxed);
    Arc::new(backlog)
}

fn client(backlog: &Arc<Backlog>, uid: u32, class: Class, jobs: u32, cpu: Duration) -> Arc<Client> {
    let client = Client::new(ClientKey::Uid(uid), backlog);
    (0..jobs).for_each(|_| client.enters(class, cpu));
    backlog.count_waiting(jobs as usize);
    client
}

fn outlook(backlog: &Backlog, client: &Client, class: Class, cpu: Duration) -> Outlook {
    let batch_share = NonZeroU32::new(8).unwrap();
    let now = backlog.started_at;
    let free_in = Duration::ZERO;
    let newcomer = Newcomer { client, class, cpu, restricted: None, workers: 2, free_in, batch_share, now };
    let outlook = backlog.outlook(&newcomer);
    assert!(backlog.wait_at_most(&newcomer).is_none_or(|most| outlook.wait <= most), "{outlook:?}");
    outlook
}

fn wait(backlog: &Backlog, client: &Client, class: Class, cpu: Duration) -> Duration {
    outlook(backlog, client, class, cpu).wait
}

#[test]
fn the_only_client_waits_behind_all_of_its_own_work() {
    let backlog = backlog();
    let heavy = client(&backlog, 1, Class::Interactive, 100, 10 * MS);
    assert_eq!(wait(&backlog, &heavy, Class::Interactive, 10 * MS), 500 * MS);
}

#[test]
fn what_idle_workers_are_about_to_take_makes_nobody_wait() {
    let backlog = backlog();
    backlog.counts.batches.running.store(1, Ordering::Relaxed);
    let heavy = client(&backlog, 1, Class::Interactive, 1, 1000 * MS);
    assert_eq!(wait(&backlog, &heavy, Class::Interactive, MS), Duration::ZERO);
    let _more = client(&backlog, 2, Class::Interactive, 1, 1000 * MS);
    assert_eq!(wait(&backlog, &heavy, Class::Interactive, 1000 * MS), 500 * MS);
}

#[test]
fn a_client_with_little_to_do_waits_for_as_much_of_anothers_work_as_its_own() {
    let backlog = backlog();
    let _heavy = client(&backlog, 1, Class::Interactive, 1000, 100 * MS);
    let light = client(&backlog, 2, Class::Interactive, 0, MS);
    assert_eq!(wait(&backlog, &light, Class::Interactive, MS), MS / 2);
}

#[test]
fn under_pressure_those_who_are_not_here_yet_are_thought_of() {
    let backlog = backlog();
    let _rival = client(&backlog, 1, Class::Interactive, 1, 10 * MS);
    let busy = client(&backlog, 2, Class::Interactive, 100, 10 * MS);
    let here = 101 * 10 * MS / 2;
    assert_eq!(wait(&backlog, &busy, Class::Interactive, 10 * MS), here);
    let pressed_at = backlog.started_at + MS;
    backlog.note_pressure(pressed_at);
    let fair = (100 + 101) * 10 * MS / 2;
    assert_eq!(wait(&backlog, &busy, Class::Interactive, 10 * MS), (here + fair) / 2);
    assert!(!backlog.is_pressed(pressed_at + PRESSED_FOR));
}

#[test]
fn who_is_not_here_yet_makes_nobody_come_back_later_than_needed() {
    let backlog = backlog();
    let lights: Vec<_> = (10..20).map(|uid| client(&backlog, uid, Class::Interactive, 1, MS / 10)).collect();
    let importer = client(&backlog, 1, Class::Interactive, 1000, 10 * MS);
    backlog.note_pressure(backlog.started_at + MS);
    let outlook = outlook(&backlog, &importer, Class::Interactive, 10 * MS);
    assert!(outlook.wait > 20_000 * MS, "while the light ones come again and again: {outlook:?}");
    // All that is here takes 5,000.5 ms of two workers.
    assert_eq!(outlook.back_in(4000 * MS).as_millis(), 1000);
    assert!(outlook.back_in(6000 * MS) < MS, "the light ones are done by then: {outlook:?}");
    drop(lights);
}

#[test]
fn what_equal_clients_take_from_each_other_is_told_until_the_pressure_is_over() {
    let backlog = backlog();
    let _rivals: Vec<_> = (10..20).map(|uid| client(&backlog, uid, Class::Interactive, 9, 10 * MS)).collect();
    let one = client(&backlog, 1, Class::Interactive, 10, 10 * MS);
    backlog.note_pressure(backlog.started_at + MS);
    let outlook = outlook(&backlog, &one, Class::Interactive, 10 * MS);
    // Of 1,000 ms that are here, and 1,200 that were fair.
    assert_eq!(outlook.wait, 550 * MS);
    assert_eq!(outlook.back_in(400 * MS), 150 * MS);
    assert_eq!(outlook.back_in(500 * MS), 50 * MS);
}

#[test]
fn a_client_that_has_had_more_waits_until_others_have_had_as_much() {
    let backlog = backlog();
    let _rival = client(&backlog, 1, Class::Interactive, 1000, 100 * MS);
    let ahead = client(&backlog, 2, Class::Interactive, 0, MS);
    ahead.set_next(Class::Interactive, nanos(31 * MS));
    backlog.set_clock(Class::Interactive, nanos(MS));
    assert_eq!(wait(&backlog, &ahead, Class::Interactive, MS), 31 * MS / 2);
}

#[test]
fn a_short_job_waits_for_no_long_ones_of_its_own_client() {
    let backlog = backlog();
    let mixed = client(&backlog, 1, Class::Interactive, 1000, 100 * MS);
    assert_eq!(wait(&backlog, &mixed, Class::Interactive, MS / 10), Duration::ZERO);
}

#[test]
fn interactive_work_waits_for_a_share_of_batch_work_and_batch_for_the_rest() {
    let backlog = backlog();
    let flood = client(&backlog, 1, Class::Batch, 1000, 70 * MS);
    let person = client(&backlog, 2, Class::Interactive, 0, MS);
    assert_eq!(wait(&backlog, &person, Class::Interactive, 70 * MS), 5 * MS);
    assert_eq!(wait(&backlog, &flood, Class::Batch, MS), 35_000 * MS);
    let _people = client(&backlog, 3, Class::Interactive, 1000, 70 * MS);
    let newcomer = client(&backlog, 4, Class::Batch, 0, MS);
    assert_eq!(wait(&backlog, &newcomer, Class::Batch, MS), (MS + 7 * 2 * MS) / 2);
}

#[test]
fn half_of_what_runs_is_left_on_the_average() {
    let backlog = backlog();
    let _waiting = client(&backlog, 1, Class::Batch, 1, 100 * MS);
    assert_eq!(backlog.drains_in(2), 100 * MS);
}

#[test]
fn restricted_work_waits_for_its_own_kind() {
    let backlog = backlog();
    let client = client(&backlog, 1, Class::Interactive, 10, 10 * MS);
    backlog.restricted[0].waiting.add(100 * MS);
    backlog.restricted[0].batches.waiting.store(2, Ordering::Relaxed);
    let newcomer = Newcomer {
        client: &client,
        class: Class::Interactive,
        cpu: MS,
        restricted: Some((OperationIndex(0), 1)),
        workers: 2,
        free_in: Duration::ZERO,
        batch_share: NonZeroU32::new(8).unwrap(),
        now: backlog.started_at,
    };
    assert_eq!(backlog.outlook(&newcomer).wait, 50 * MS, "the first of the two is about to be taken");
    backlog.restricted[0].batches.running.store(1, Ordering::Relaxed);
    assert_eq!(backlog.outlook(&newcomer).wait, 100 * MS);
}
