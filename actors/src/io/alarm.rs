//! What somebody waits for beside an answer: an instant, and the end of the daemon.
//!
//! Whoever answers one small request after another would make, register and drop a timer and a watch for each, only to
//! hear from neither. An alarm is kept and used again: it stays registered with the task that asked last, and is asked
//! at the price of a few comparisons for as long as that task is the same one.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Instant;

use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::lifecycle::Phase;

/// A clock and a view of the phases, for one task at a time. Dropping it forgets both.
pub struct Alarm {
    phases: watch::Receiver<Phase>,
    /// The phase that was seen last.
    phase: Phase,
    /// The next phase, once somebody has asked for it.
    change: Option<Change>,
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
        Self { phases, phase, change: None, timer: None, timer_wakes: None }
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
            let phases = &self.phases;
            let change = self.change.get_or_insert_with(|| Change::after(phases.clone()));
            ready!(change.poll(context));
            self.change = None;
            self.phase = *self.phases.borrow_and_update();
            if self.phases.has_changed().is_err() {
                // The sender goes with the supervisor, which ends after every phase.
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
            if poll_timer(timer.as_mut(), context).is_pending() {
                self.timer_wakes = Some(context.waker().clone());
                return Poll::Pending;
            }
            if Instant::now() >= at {
                return Poll::Ready(());
            }
        }
    }
}

/// Ready when the timer has run out. Pending means that it will wake the task, even one whose budget is spent: such a
/// task is told to come again otherwise, by a timer that does not know it yet.
pub(super) fn poll_timer(timer: Pin<&mut Sleep>, context: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(timer)).poll(context)
}

/// The next phase, which is asked again only once it has woken somebody, or for another task. It may wake its task
/// while the phase is still the same, and knows nobody to wake from then on until it is asked.
struct Change {
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
    bell: Option<Arc<Bell>>,
}

impl Change {
    /// Ready when the phase is another than `phases` has seen, or will never be.
    fn after(mut phases: watch::Receiver<Phase>) -> Self {
        Self { future: Box::pin(async move { drop(phases.changed().await) }), bell: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let bell = match &self.bell {
            Some(bell) if bell.task.will_wake(context.waker()) => {
                if !bell.has_rung.load(Ordering::Acquire) {
                    return Poll::Pending;
                }
                bell.has_rung.store(false, Ordering::Relaxed);
                Arc::clone(bell)
            }
            _ => Arc::clone(self.bell.insert(Bell::of(context.waker()))),
        };
        self.future.as_mut().poll(&mut Context::from_waker(&Waker::from(bell)))
    }
}

/// Wakes a task, and tells afterwards that it has.
struct Bell {
    task: Waker,
    has_rung: AtomicBool,
}

impl Bell {
    fn of(task: &Waker) -> Arc<Self> {
        Arc::new(Self { task: task.clone(), has_rung: AtomicBool::new(false) })
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

fn is_told(waker: Option<&Waker>, context: &Context<'_>) -> bool {
    waker.is_some_and(|waker| waker.will_wake(context.waker()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread::{self, Thread};
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Rings(AtomicUsize);

    impl Wake for Rings {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Rings {
        fn count(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn the_task_that_asked_last_is_woken_by_the_next_phase() {
        let (sender, phases) = watch::channel(Phase::Serving);
        let mut alarm = Alarm::new(phases);
        let (first, second) = (Arc::new(Rings::default()), Arc::new(Rings::default()));
        let wakers = [&first, &second].map(|rings| Waker::from(Arc::clone(rings)));
        for waker in [&wakers[0], &wakers[1], &wakers[1]] {
            assert!(alarm.poll_phase(&mut Context::from_waker(waker), Phase::Draining).is_pending());
        }
        sender.send(Phase::Quiet).unwrap();
        assert_eq!((first.count(), second.count()), (0, 1));
        let mut context = Context::from_waker(&wakers[1]);
        assert!(alarm.poll_phase(&mut context, Phase::Draining).is_pending());
        sender.send(Phase::Cancelling).unwrap();
        assert_eq!(second.count(), 2);
        assert!(alarm.poll_phase(&mut context, Phase::Draining).is_ready());
        assert!(alarm.poll_phase(&mut context, Phase::Cancelling).is_ready());
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_pending());
        sender.send(Phase::Over).unwrap();
        assert_eq!(second.count(), 3);
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_ready());
    }

    #[test]
    fn a_daemon_that_is_gone_has_come_to_every_phase() {
        let (sender, phases) = watch::channel(Phase::Serving);
        let mut alarm = Alarm::new(phases);
        let rings = Arc::new(Rings::default());
        let waker = Waker::from(Arc::clone(&rings));
        let mut context = Context::from_waker(&waker);
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_pending());
        drop(sender);
        assert_eq!(rings.count(), 1);
        assert!(alarm.poll_phase(&mut context, Phase::Over).is_ready());
    }

    /// A task of its own for an alarm.
    struct Task {
        is_woken: AtomicBool,
        runs_on: Thread,
    }

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.is_woken.store(true, Ordering::SeqCst);
            self.runs_on.unpark();
        }
    }

    /// The sender of a phase makes it known first and wakes those who wait for it then, one after another. Who has
    /// heard of it early waits for the next phase while the sender is still about.
    #[test]
    fn who_hears_of_a_phase_before_its_sender_is_done_is_woken_by_the_next_one() {
        for round in 0..300 {
            let (sender, phases) = watch::channel(Phase::Serving);
            let task = || Arc::new(Task { is_woken: AtomicBool::new(true), runs_on: thread::current() });
            let mut tasks: Vec<_> = (0..64).map(|_| (Alarm::new(phases.clone()), task())).collect();
            // Those that are woken wait for the last phase once they have come to this one.
            let mut run = |phase| {
                for (alarm, task) in &mut tasks {
                    if task.is_woken.swap(false, Ordering::SeqCst) {
                        let waker = Waker::from(Arc::clone(task));
                        let mut context = Context::from_waker(&waker);
                        if alarm.poll_phase(&mut context, phase).is_ready() {
                            assert!(alarm.poll_phase(&mut context, Phase::Over).is_pending());
                        }
                    }
                }
                tasks.iter().filter(|(alarm, _)| alarm.phase >= phase).count()
            };
            assert_eq!(run(Phase::Draining), 0);
            for phase in [Phase::Draining, Phase::Cancelling] {
                thread::scope(|scope| {
                    scope.spawn(|| sender.send(phase).unwrap());
                    let patience = Instant::now() + Duration::from_secs(10);
                    while run(phase) < 64 {
                        thread::park_timeout(Duration::from_millis(100));
                        assert!(Instant::now() < patience, "round {round}: not all were woken for {phase:?}");
                    }
                });
            }
        }
    }

    #[tokio::test]
    async fn a_timer_rings_for_a_task_whose_budget_was_spent_when_it_asked() {
        let (_sender, phases) = watch::channel(Phase::Serving);
        let mut alarm = Alarm::new(phases);
        let at = Some(Instant::now() + Duration::from_millis(20));
        let mut is_spent = false;
        let asks = tokio::spawn(std::future::poll_fn(move |context| {
            while !is_spent {
                is_spent = pin!(tokio::task::consume_budget()).poll(context).is_pending();
            }
            alarm.poll_time(context, at)
        }));
        tokio::time::timeout(Duration::from_secs(10), asks).await.unwrap().unwrap();
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
