//! The last look of an I/O thread before it sleeps.
//!
//! To put a thread to sleep and wake it again takes several times as long as light work does. So a thread that handed
//! over all that there is to do stays awake for a moment and looks out for the answer, as the worker that gave it looks
//! out for what comes next: with a client that takes turns, the thread sleeps once for each request, not twice.
//!
//! Nothing depends on it: what comes meanwhile, or does not, wakes the thread as ever, after the look at the latest.
//! Sockets are not looked at during it. So a thread that had several batches to hand over since it last slept, or
//! looked in vain, does not look for some time.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::awake::stay_awake;
use crate::dispatch::{Batch, Bridge};

/// How much longer than its work a worker that stands by may take: it begins in a moment, or does not get to run.
const CALLED_MAX: Duration = Duration::from_micros(10);

/// The same of a worker that has to wake up first.
const WOKEN_MAX: Duration = Duration::from_micros(80);

/// How many batches a thread hands over without a look after one showed that it had better sleep.
const NO_LOOKS: u32 = 16;

thread_local! {
    static OF_THREAD: RefCell<Lookout> = const { RefCell::new(Lookout::new()) };
}

/// This thread is about to hand a batch over. `is_all` says that it is light and all that there is to do.
pub(super) fn hands_over(batch: &Batch, bridge: &Arc<Bridge>, is_all: bool) {
    OF_THREAD.with_borrow_mut(|lookout| {
        lookout.hands_over(|| is_all.then(|| Expected::of(batch.cpu(), bridge)));
    });
}

/// To be called by an I/O thread that is about to sleep, where there is more than one core: stays awake for up to
/// 100 µs if the answer to what it handed over may come by then.
pub fn look_out() {
    let Some(expected) = OF_THREAD.with_borrow_mut(Lookout::is_about_to_sleep) else { return };
    let until = Instant::now() + expected.within;
    if !stay_awake(until, || expected.bridge.places.is_anyone_standing_by()) {
        OF_THREAD.with_borrow_mut(Lookout::looked_in_vain);
    }
}

/// The answer to a batch that was all there was to do.
struct Expected {
    bridge: Arc<Bridge>,
    within: Duration,
}

/// What one thread looks out for.
struct Lookout {
    expected: Option<Expected>,
    /// Since the thread was last about to sleep.
    has_handed_over: bool,
    /// Batches to come that are not looked out for.
    no_looks: u32,
}

impl Expected {
    /// To a batch that is about to be handed over and takes so much time on one core.
    fn of(cpu: Duration, bridge: &Arc<Bridge>) -> Self {
        let until_begun = if bridge.places.is_anyone_standing_by() { CALLED_MAX } else { WOKEN_MAX };
        Self { bridge: Arc::clone(bridge), within: until_begun + cpu }
    }
}

impl Lookout {
    const fn new() -> Self {
        Self { expected: None, has_handed_over: false, no_looks: 0 }
    }

    fn hands_over(&mut self, expected: impl FnOnce() -> Option<Expected>) {
        if std::mem::replace(&mut self.has_handed_over, true) {
            self.no_looks = NO_LOOKS;
            self.expected = None;
        } else if self.no_looks > 0 {
            self.no_looks -= 1;
        } else {
            self.expected = expected();
        }
    }

    /// What the thread should look for before it sleeps, if anything.
    fn is_about_to_sleep(&mut self) -> Option<Expected> {
        self.has_handed_over = false;
        self.expected.take()
    }

    fn looked_in_vain(&mut self) {
        self.no_looks = NO_LOOKS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::Budget;

    const CPU: Duration = Duration::from_micros(5);

    fn bridge() -> Arc<Bridge> {
        Arc::new(Bridge::new(2, Budget::new(1000, 2)))
    }

    #[test]
    fn who_handed_over_all_there_is_to_do_looks_out_once() {
        let (mut lookout, bridge) = (Lookout::new(), bridge());
        assert!(lookout.is_about_to_sleep().is_none(), "nothing is expected");
        lookout.hands_over(|| Some(Expected::of(CPU, &bridge)));
        assert!(lookout.is_about_to_sleep().is_some());
        assert!(lookout.is_about_to_sleep().is_none(), "something else woke it");
        lookout.hands_over(|| None);
        assert!(lookout.is_about_to_sleep().is_none(), "heavy, or behind others");
        lookout.hands_over(|| Some(Expected::of(CPU, &bridge)));
        drop(lookout);
        assert_eq!(Arc::strong_count(&bridge), 1);
    }

    #[test]
    fn a_worker_that_stands_by_is_given_less_time_than_one_that_sleeps() {
        let (mut lookout, bridge) = (Lookout::new(), bridge());
        let mut within = || {
            lookout.hands_over(|| Some(Expected::of(CPU, &bridge)));
            lookout.is_about_to_sleep().unwrap().within
        };
        assert_eq!(within(), WOKEN_MAX + CPU);
        assert!(bridge.places.claim());
        let standing = bridge.places.stand_by().unwrap();
        assert_eq!(within(), CALLED_MAX + CPU);
        drop(standing);
        assert_eq!(within(), WOKEN_MAX + CPU);
    }

    #[test]
    fn who_had_several_batches_or_looked_in_vain_does_not_look_for_some_time() {
        let (mut lookout, bridge) = (Lookout::new(), bridge());
        let hands_over = |lookout: &mut Lookout, n: usize| {
            (0..n).for_each(|_| lookout.hands_over(|| Some(Expected::of(CPU, &bridge))));
            lookout.is_about_to_sleep().is_some()
        };
        let pauses = |lookout: &mut Lookout| {
            for _ in 0..NO_LOOKS {
                assert!(!hands_over(lookout, 0));
                assert!(!hands_over(lookout, 1));
            }
            assert!(hands_over(lookout, 1), "nothing more was in the way");
        };
        assert!(!hands_over(&mut lookout, 2), "sockets come first");
        pauses(&mut lookout);
        lookout.looked_in_vain();
        pauses(&mut lookout);
    }
}
