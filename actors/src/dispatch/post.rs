//! The way back for light work: what a worker has answered within a moment crosses together, so that the I/O world is
//! woken once for all of it.
//!
//! A reply that is sent by itself wakes a thread that, being of higher priority, takes the core from the worker at once:
//! two context switches for every reply. So a worker gathers them in its [`Bag`], and a postman in the I/O world sends
//! them through the oneshots that connections wait on.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::reply::{Replies, ReplySender};

/// Most replies of a bag, so that the I/O world has something to do while the next ones are made.
const LETTERS_MAX: usize = 32;

/// How old the first reply of a bag may become before the bag is posted.
const AGE_MAX: Duration = Duration::from_micros(100);

/// A reply and where it goes.
pub(crate) struct Letter {
    sender: ReplySender,
    replies: Replies,
}

/// The worker's end of the post.
pub(crate) struct Post(mpsc::UnboundedSender<Vec<Letter>>);

/// The I/O world's end.
pub(crate) struct Postman(mpsc::UnboundedReceiver<Vec<Letter>>);

/// Both ends. There are never more letters than requests in flight, which are bounded.
pub(crate) fn post() -> (Post, Postman) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Post(sender), Postman(receiver))
}

impl Letter {
    pub(super) fn new(sender: ReplySender, replies: Replies) -> Self {
        Self { sender, replies }
    }

    /// Sends it; a connection that has gone away frees what its answers hold.
    pub(crate) fn deliver(self) {
        self.sender.send(self.replies);
    }
}

impl Postman {
    /// Delivers until no worker is left who could post anything.
    pub(crate) async fn deliver(mut self) {
        while let Some(letters) = self.0.recv().await {
            letters.into_iter().for_each(Letter::deliver);
        }
    }
}

/// Replies that one worker has not posted yet. Posts them when dropped.
pub(crate) struct Bag<'a> {
    post: &'a Post,
    letters: Vec<Letter>,
    /// Of the oldest.
    since: Instant,
}

impl<'a> Bag<'a> {
    pub(crate) fn new(post: &'a Post, now: Instant) -> Self {
        Self { post, letters: Vec::new(), since: now }
    }

    /// Adds a reply that was made at `now`, and posts them all if they should not wait for more.
    pub(crate) fn add(&mut self, letter: Letter, now: Instant) {
        if self.letters.is_empty() {
            self.since = now;
        }
        self.letters.push(letter);
        if self.letters.len() == LETTERS_MAX || now.saturating_duration_since(self.since) > AGE_MAX {
            self.post();
        }
    }

    /// Posts what there is.
    pub(crate) fn post(&mut self) {
        if self.letters.len() < 2 {
            // One alone is quicker by itself.
            return self.letters.pop().into_iter().for_each(Letter::deliver);
        }
        if let Err(mpsc::error::SendError(letters)) = self.post.0.send(std::mem::take(&mut self.letters)) {
            // The I/O world ends.
            letters.into_iter().for_each(Letter::deliver);
        }
    }
}

impl Drop for Bag<'_> {
    fn drop(&mut self) {
        self.post();
    }
}

#[cfg(test)]
mod tests {
    use super::super::reply::{Answers, reply_channel};
    use super::*;

    /// A letter without answers, and whether it has arrived.
    fn letter() -> (Letter, impl FnMut() -> bool) {
        let (sender, mut pending) = reply_channel();
        (Letter::new(sender, Replies { answers: Answers::Some(Box::default()), rest: None }), move || {
            pending.has_come()
        })
    }

    #[tokio::test]
    async fn what_is_in_the_bag_arrives_when_nothing_more_is_done() {
        let (post, postman) = post();
        let now = Instant::now();
        let mut bag = Bag::new(&post, now);
        let (letters, mut arrived): (Vec<_>, Vec<_>) = (0..5).map(|_| letter()).unzip();
        letters.into_iter().for_each(|letter| bag.add(letter, now));
        assert!(arrived.iter_mut().all(|arrived| !arrived()), "they wait for more");
        drop(bag);
        drop(post);
        postman.deliver().await;
        assert!(arrived.iter_mut().all(|arrived| arrived()));
    }

    #[tokio::test]
    async fn a_full_bag_and_an_old_one_are_posted() {
        let (post, mut postman) = post();
        let now = Instant::now();
        let mut bag = Bag::new(&post, now);
        (0..LETTERS_MAX).for_each(|_| bag.add(letter().0, now));
        assert_eq!(postman.0.recv().await.unwrap().len(), LETTERS_MAX);
        bag.add(letter().0, now);
        bag.add(letter().0, now + AGE_MAX);
        assert!(postman.0.try_recv().is_err(), "not old yet");
        bag.add(letter().0, now + AGE_MAX + Duration::from_micros(1));
        assert_eq!(postman.0.recv().await.unwrap().len(), 3);
    }

    #[test]
    fn without_a_postman_nothing_is_lost() {
        let (post, postman) = post();
        drop(postman);
        let mut bag = Bag::new(&post, Instant::now());
        let (letters, mut arrived): (Vec<_>, Vec<_>) = (0..3).map(|_| letter()).unzip();
        letters.into_iter().for_each(|letter| bag.add(letter, Instant::now()));
        bag.post();
        assert!(arrived.iter_mut().all(|arrived| arrived()));
    }
}
