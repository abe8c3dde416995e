//! A worker that has nothing left to do is called for what comes within a moment, and nobody is woken for it.

use super::*;
use crate::dispatch::Hands;

/// Answers what it runs, and does something the first time that it stands by.
struct Patient<F> {
    n_stood_by: usize,
    meanwhile: Option<F>,
}

impl<F: FnOnce()> Patient<F> {
    fn new(meanwhile: F) -> Self {
        Self { n_stood_by: 0, meanwhile: Some(meanwhile) }
    }
}

impl<F: FnOnce()> Hands for &mut Patient<F> {
    fn run(&mut self, batch: Batch) -> Duration {
        answer_all(batch)
    }

    fn stand_by(&mut self, is_called: impl Fn() -> bool) {
        assert!(!is_called(), "before anybody has come");
        self.n_stood_by += 1;
        if let Some(meanwhile) = self.meanwhile.take() {
            meanwhile();
            assert!(is_called());
        }
    }
}

#[test]
fn who_comes_while_a_worker_stands_by_calls_it() {
    let bridge = bridge();
    let settings = settings();
    let (first, pending, _) = batch(&bridge, &settings, &[Wanted::interactive(1)]);
    let mut replies = waiting_for(pending);
    let (second, pending, _) = batch(&bridge, &settings, &[Wanted::interactive(2)]);
    replies.expect(pending);
    bridge.submit(first);
    assert!(bridge.places.claim());
    let mut worker = Patient::new(|| {
        bridge.submit(second);
        assert!(!bridge.places.claim(), "it is awake");
        assert!(bridge.places.claim(), "it can be called only once");
        bridge.places.give_back();
    });
    bridge.activation_until(|| false, &mut worker, || panic!("nobody else is needed"));
    assert_eq!(worker.n_stood_by, 2, "after each of them");
    assert_eq!(heard(&mut replies), [(1, None), (2, None)]);
    assert_eq!(bridge.places.awake(), 0);
    assert!(bridge.places.claim(), "nobody stands by any more");
}

#[test]
fn who_is_not_the_only_one_awake_does_not_stand_by() {
    let bridge = bridge();
    assert!(bridge.places.claim());
    assert!(bridge.places.claim());
    let mut worker = Patient::new(|| {});
    bridge.activation_until(|| false, &mut worker, || {});
    assert_eq!((worker.n_stood_by, bridge.places.awake()), (0, 1));
}

#[test]
fn who_was_relieved_does_not_stand_by() {
    let bridge = bridge();
    assert!(bridge.places.claim());
    let mut worker = Patient::new(|| {});
    bridge.activation_until(|| true, &mut worker, || {});
    assert_eq!((worker.n_stood_by, bridge.places.awake()), (0, 0));
}
