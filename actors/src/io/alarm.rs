//! What somebody waits for beside an answer: an instant, and the end of the daemon.
//!
//! Whoever answers one small request after another would make, register and drop a timer and a watch for each, only to
//! hear from neither. An alarm is kept and used again: it stays registered with the task that asked last, and is asked
//! at the price of a few comparisons for as long as that task is the same one.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use tokio::sync::watch;
use tokio::time::Sleep;

use crate::lifecycle::Phase;

type Change = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A clock and a view of the phases, for one task at a time. Dropping it forgets both.
pub struct Alarm {
    phases: watch::Receiver<Phase>,
    /// The phase that was seen last.
    phase: Phase,
    /// The next phase, once somebody has asked for it.
    change: Option<Change>,
    /// Who is woken by the next phase.
    change_wakes: Option<Waker>,
    /// Armed for no later than was asked last.
    timer: Option<Pin<Box<Sleep>>>,
    /// Who is woken by the timer.
    timer_wakes: Option<Waker>,
}

/// What an alarm was waited for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rang {
    /// The instant has come.
    Time,
    /// The daemon has come to the phase, or beyond.
    Phase,
}

impl Alarm {
    pub(super) fn new(phases: watch::Receiver<Phase>) -> Self {
        let phase = *phases.borrow();
        Self { phases, phase, change: None, change_wakes: None, timer: None, timer_wakes: None }
    }

    /// Ready when the daemon has come to `phase` or beyond, or `at` has come, whichever is seen first.
    pub fn poll(&mut self, context: &mut Context<'_>, phase: Phase, at: Option<Instant>) -> Poll<Rang> {
        if self.poll_phase(context, phase).is_ready() {
            return Poll::Ready(Rang::Phase);
        }
        self.poll_time(context, at).map(|()| Rang::Time)
    }

    /// Ready when the daemon has come to `phase`, or beyond.
    pub fn poll_phase(&mut self, context: &mut Context<'_>, phase: Phase) -> Poll<()> {
        while self.phase < phase {
            // The sender goes with the supervisor, which ends after every phase.
            let has_changed = self.phases.has_changed().unwrap_or(true);
            if !has_changed && is_told(self.change_wakes.as_ref(), context) {
                return Poll::Pending;
            }
            let phases = &self.phases;
            let change = self.change.get_or_insert_with(|| next(phases.clone()));
            if change.as_mut().poll(context).is_pending() {
                self.change_wakes = Some(context.waker().clone());
                return Poll::Pending;
            }
            self.change = None;
            self.change_wakes = None;
            self.phase = *self.phases.borrow_and_update();
            if self.phases.has_changed().is_err() {
                return Poll::Ready(());
            }
        }
        Poll::Ready(())
    }

    /// Ready when `at` has come; never where there is no instant.
    pub fn poll_time(&mut self, context: &mut Context<'_>, at: Option<Instant>) -> Poll<()> {
        let Some(at) = at else { return Poll::Pending };
        loop {
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at.into())));
            // A timer that is armed too early only costs a look; one that is too late would miss the instant.
            if timer.is_elapsed() || timer.deadline().into_std() > at {
                timer.as_mut().reset(at.into());
                self.timer_wakes = None;
            }
            if is_told(self.timer_wakes.as_ref(), context) {
                return Poll::Pending;
            }
            if timer.as_mut().poll(context).is_pending() {
                self.timer_wakes = Some(context.waker().clone());
                return Poll::Pending;
            }
            if Instant::now() >= at {
                return Poll::Ready(());
            }
        }
    }
}

/// Ready when the phase is another than `phases` has seen, or will never be.
fn next(mut phases: watch::Receiver<Phase>) -> Change {
    Box::pin(async move { drop(phases.changed().await) })
}

fn is_told(waker: Option<&Waker>, context: &Context<'_>) -> bool {
    waker.is_some_and(|waker| waker.will_wake(context.waker()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rings(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_task_that_asked_last_is_woken_by_the_next_phase() {
        let (sender, phases) = watch::channel(Phase::Serving);
        let mut alarm = Alarm::new(phases);
        let (first, second) = (Arc::new(Bell::default()), Arc::new(Bell::default()));
        let wakers = [&first, &second].map(|bell| Waker::from(Arc::clone(bell)));
        for waker in [&wakers[0], &wakers[1], &wakers[1]] {
            assert!(alarm.poll_phase(&mut Context::from_waker(waker), Phase::Draining).is_pending());
        }
        sender.send(Phase::Quiet).unwrap();
        assert_eq!((first.rings(), second.rings()), (0, 1));
        let mut context = Context::from_waker(&wakers[1]);
        assert!(alarm.poll_phase(&mut context, Phase::Draining).is_pending());
        sender.send(Phase::Cancelling).unwrap();
        assert_eq!(second.rings(), 2);
        assert!(alarm.poll_phase(&mut context, Phase::Draining).is_ready());
        assert!(alarm.poll_phase(&mut context, Phase::Cancelling).is_ready());
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_pending());
        sender.send(Phase::Over).unwrap();
        assert_eq!(second.rings(), 3);
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_ready());
    }

    #[test]
    fn a_daemon_that_is_gone_has_come_to_every_phase() {
        let (sender, phases) = watch::channel(Phase::Serving);
        let mut alarm = Alarm::new(phases);
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(Arc::clone(&bell));
        let mut context = Context::from_waker(&waker);
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_pending());
        drop(sender);
        assert_eq!(bell.rings(), 1);
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_ready());
    }

    #[tokio::test]
    async fn a_timer_that_is_armed_for_another_instant_rings_at_this_one() {
        let (_sender, phases) = watch::channel(Phase::Serving);
        let mut alarm = Alarm::new(phases);
        let soon = Instant::now() + Duration::from_millis(20);
        let later = soon + Duration::from_secs(3600);
        // Asked for, and forgotten, as by a request that is answered.
        let asked = std::future::poll_fn(|context| {
            assert!(alarm.poll_time(context, Some(later)).is_pending());
            assert!(alarm.poll_time(context, None).is_pending());
            Poll::Ready(())
        });
        asked.await;
        std::future::poll_fn(|context| alarm.poll_time(context, Some(soon))).await;
        assert!(Instant::now() >= soon);
        // Rung before, and asked for something later.
        let asked = std::future::poll_fn(|context| Poll::Ready(alarm.poll_time(context, Some(later))));
        assert!(asked.await.is_pending());
    }
}
