//! The orders in which submitters and workers can meet, with up to three preemptions. Run with
//! `RUSTFLAGS="--cfg windlass_loom" cargo test -p windlass-actors --lib loom`.

use ::loom::thread;

use super::*;
use crate::dispatch::{Budget, ReplyBox};

/// The pool, as far as the bridge sees it: whoever has claimed a place runs an activation on some thread.
#[derive(Default)]
struct Pool(std::sync::Mutex<Vec<thread::JoinHandle<()>>>);

fn wake(bridge: &Arc<Bridge>, pool: &Arc<Pool>) {
    if bridge.places.claim() {
        let (on, of) = (Arc::clone(bridge), Arc::clone(pool));
        let activation = thread::spawn(move || on.activation(answer_all, || wake(&on, &of)));
        pool.0.lock().unwrap().push(activation);
    }
}

/// Submits these jobs, one after the other, to this many workers; when all workers have gone to rest again, all must
/// be answered, and nothing held.
fn nothing_is_left_behind(workers: usize, wanted: &'static [Wanted]) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(move || {
        let bridge = Arc::new(Bridge::new(workers, Budget::new(1000, 2)));
        let settings = settings();
        let pool = Arc::new(Pool::default());
        let mut replies = ReplyBox::default();
        for wanted in wanted {
            let (batch, pending, _) = batch(&bridge, &settings, &[*wanted]);
            replies.expect(pending);
            bridge.submit(batch);
            wake(&bridge, &pool);
        }
        loop {
            let Some(activation) = pool.0.lock().unwrap().pop() else { break };
            activation.join().unwrap();
        }
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for _ in wanted {
            assert!(replies.poll_answers(&mut context).is_ready(), "a job was left behind");
        }
        assert_eq!((bridge.places.awake(), bridge.waiting_jobs(), bridge.budget.work_bytes()), (0, 0, 0));
    });
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
