//! Every order in which submitters and workers can meet. Run with
//! `RUSTFLAGS="--cfg windlass_loom" cargo test -p windlass-actors --lib loom`.

use loom::thread;

use super::*;
use crate::dispatch::Budget;

/// The pool, as far as the bridge sees it: whoever has claimed a place runs an activation, somewhere.
fn wake(bridge: &Arc<Bridge>) {
    if bridge.places.claim() {
        let bridge = Arc::clone(bridge);
        thread::spawn(move || activate(&bridge));
    }
}

fn activate(bridge: &Arc<Bridge>) {
    bridge.activation(answer_all, || wake(bridge));
}

/// Submits a job of each kind from a thread of its own, with these many workers; afterwards all must be answered
/// without another submit.
fn nothing_is_left_behind(workers: usize, wanted: &'static [Wanted]) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let bridge = Arc::new(Bridge::new(workers, 8, Budget::new(1000, 2)));
        let settings = settings();
        let submitters: Vec<_> = wanted
            .iter()
            .map(|wanted| {
                let (batch, replies, _) = batch(&bridge, &settings, &[*wanted]);
                let bridge = Arc::clone(&bridge);
                let submitter = thread::spawn(move || {
                    bridge.submit(batch);
                    wake(&bridge);
                });
                (submitter, replies)
            })
            .collect();
        let mut pending = Vec::new();
        for (submitter, replies) in submitters {
            submitter.join().unwrap();
            pending.push(replies);
        }
        // Activations run on; a job that nobody would take any more leaves this loop without progress, which loom
        // reports.
        for replies in pending {
            let mut waiting = crate::dispatch::ReplyBox::default();
            waiting.expect(replies);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            while waiting.poll_answers(&mut context).is_pending() {
                thread::yield_now();
            }
        }
    });
}

const LIGHT: Wanted = Wanted { id: 1, class: Class::Interactive, entry: FREE, estimate: COSTLESS };
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
