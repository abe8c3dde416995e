//! Takes pieces of a body from hyper without being woken for it.
//!
//! Whoever takes a piece wakes the one who brings them, and in HTTP/1.1 both are the same task, which is being polled:
//! it would be polled once more, for nothing where the piece was the last. So hyper is polled with a waker that is
//! silent on this thread while a piece is taken, and who takes one makes up for it where more is to come.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};

thread_local! {
    // What calls the waker is hyper, which hands nothing on; so what is said to it lies beside the call.
    static TAKING: Cell<Taking> = const { Cell::new(Taking::Nothing) };
}

/// What this thread is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taking {
    Nothing,
    /// A piece. Next: [`Taking::Woken`] or [`Taking::Nothing`].
    Piece,
    /// A piece, and a waker was silent. Next: [`Taking::Nothing`].
    Woken,
}

/// Ends the silence, whatever happens.
struct Silence;

impl Silence {
    fn begin() -> Self {
        TAKING.set(Taking::Piece);
        Self
    }

    fn was_broken(&self) -> bool {
        TAKING.get() == Taking::Woken
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        TAKING.set(Taking::Nothing);
    }
}

/// The waker of a task, silent while the task takes a piece of a body.
struct Hushed(Waker);

impl Wake for Hushed {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match TAKING.get() {
            Taking::Nothing => self.0.wake_by_ref(),
            Taking::Piece | Taking::Woken => TAKING.set(Taking::Woken),
        }
    }
}

/// Makes the waker that hyper is polled with; the same one for as long as the task is the same.
#[derive(Default)]
pub(super) struct Hush(Option<(Waker, Waker)>);

impl Hush {
    pub(super) fn waker(&mut self, context: &Context<'_>) -> &Waker {
        let task = context.waker();
        let hushed = || (task.clone(), Waker::from(Arc::new(Hushed(task.clone()))));
        if self.0.as_ref().is_some_and(|(known, _)| !known.will_wake(task)) {
            self.0 = None;
        }
        &self.0.get_or_insert_with(hushed).1
    }
}

/// The next frame of a body. The task is woken for it only where another may come.
pub(super) fn poll_frame(
    body: &mut Incoming,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let silence = Silence::begin();
    let frame = Pin::new(&mut *body).poll_frame(context);
    let was_broken = silence.was_broken();
    drop(silence);
    if was_broken && !body.is_end_stream() {
        context.waker().wake_by_ref();
    }
    frame
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_waker_is_silent_on_the_taking_thread_alone_and_only_meanwhile() {
        let bell = Arc::new(Bell::default());
        let rings = || bell.0.load(Ordering::Relaxed);
        let task = Waker::from(Arc::clone(&bell));
        let mut hush = Hush::default();
        let waker = hush.waker(&Context::from_waker(&task)).clone();
        assert!(hush.waker(&Context::from_waker(&task)).will_wake(&waker));
        waker.wake_by_ref();
        assert_eq!(rings(), 1);
        let silence = Silence::begin();
        assert!(!silence.was_broken());
        waker.wake_by_ref();
        assert!(silence.was_broken());
        assert_eq!(rings(), 1);
        std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join().unwrap());
        assert_eq!(rings(), 2);
        drop(silence);
        waker.wake_by_ref();
        assert_eq!(rings(), 3);
        let other = Waker::from(Arc::new(Bell::default()));
        assert!(!hush.waker(&Context::from_waker(&other)).will_wake(&waker));
    }
}
