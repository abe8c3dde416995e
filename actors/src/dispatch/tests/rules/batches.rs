//! A batch: what becomes of its jobs, its answers and what they hold.

use super::*;

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
