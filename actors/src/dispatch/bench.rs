//! The pieces of the bridge one by one, each repeated `n` times, for micro-benchmarks and instruction counts.
//!
//! Not an interface: whatever changes in `dispatch/` changes here. One thread, no pool and no socket, so that every
//! run executes the same instructions.

use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use super::intake::Intake;
use super::job::Batch;
use super::schedule::{Schedule, Taken};
use super::tests::{Wanted, answer_all, batch, client, settings};
use super::{Bridge, Budget, Client, PendingReplies, ReplyBox};
use crate::settings::Settings;

/// Batches that are in the intake or the schedule at a time.
const BATCHES: usize = 32;

/// Clients whose batches take turns in the schedule.
const CLIENTS: u32 = 8;

/// Where the pieces are run.
pub struct Bench {
    bridge: Bridge,
    settings: Arc<Settings>,
    /// Who stays connected.
    _clients: Vec<Arc<Client>>,
}

impl Default for Bench {
    fn default() -> Self {
        let bridge = Bridge::new(1, Budget::new(1 << 20, 1));
        let clients = (0..CLIENTS).map(|number| client(&bridge, number)).collect();
        Self { bridge, settings: settings(), _clients: clients }
    }
}

impl Bench {
    fn batch(&self, n_jobs: u64, client: u32) -> (Batch, PendingReplies) {
        let jobs: Vec<Wanted> = (1..=n_jobs).map(|id| Wanted { client, ..Wanted::interactive(id) }).collect();
        let (batch, pending, _stops) = batch(&self.bridge, &self.settings, &jobs);
        (batch, pending)
    }

    fn batches(&self) -> Vec<(Batch, PendingReplies)> {
        (0..CLIENTS).cycle().take(BATCHES).map(|client| self.batch(1, client)).collect()
    }

    /// Grants and gives back: a slot and room for a body.
    pub fn admission(&self, n: usize) {
        for _ in 0..n {
            let held = self.bridge.admission.hold(black_box(64), 1 << 20);
            let slot = self.bridge.admission.enter(black_box(64));
            drop(black_box((held, slot)));
        }
    }

    /// Moves `n` batches through the intake.
    pub fn intake(&self, n: usize) {
        let intake = Intake::new();
        let (mut batches, _pending): (Vec<_>, Vec<_>) = self.batches().into_iter().unzip();
        for _ in 0..n / BATCHES {
            for batch in batches.drain(..) {
                assert!(intake.try_send(batch).is_ok(), "the intake is open");
            }
            batches.extend(std::iter::from_fn(|| intake.try_take()));
        }
    }

    /// Pushes and takes `n` batches of several clients.
    pub fn schedule(&self, n: usize) {
        let mut schedule = Schedule::default();
        // Time stands still, so that a slow run does the same.
        let now = Instant::now();
        let (mut batches, _pending): (Vec<_>, Vec<_>) = self.batches().into_iter().unzip();
        for _ in 0..n / BATCHES {
            for batch in batches.drain(..) {
                schedule.push(batch);
            }
            let mut take = || match schedule.take(now, |_| Ok(()))? {
                Taken::Job(batch, ()) | Taken::Lost(batch) => Some(batch),
            };
            batches.extend(std::iter::from_fn(&mut take));
        }
    }

    /// Makes, answers and hears `n` batches of `n_jobs` jobs, without the bridge between.
    pub fn reply(&self, n: usize, n_jobs: u64) {
        let mut replies = ReplyBox::default();
        for _ in 0..n {
            let (batch, pending) = self.batch(n_jobs, 1);
            replies.expect(pending);
            answer_all(batch);
            hear(&mut replies);
        }
    }

    /// The same over the bridge: submit, activate, take, answer, hear.
    pub fn bridge(&self, n: usize, n_jobs: u64) {
        let mut replies = ReplyBox::default();
        for _ in 0..n {
            let (batch, pending) = self.batch(n_jobs, 1);
            replies.expect(pending);
            self.bridge.submit(batch);
            assert!(self.bridge.places.claim(), "nobody else is awake");
            self.bridge.activation_until(|| false, answer_all, || {});
            hear(&mut replies);
        }
    }
}

fn hear(replies: &mut ReplyBox) {
    let mut context = Context::from_waker(Waker::noop());
    assert!(black_box(replies.poll_answers(&mut context)).is_ready(), "a batch that was run has answered");
}
