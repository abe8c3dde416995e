//! What is owed to a client, and what it is given.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};

use super::Hall;
use crate::dispatch::{Answer, Failure, HeldBytes};
use crate::io::alarm::Alarm;
use crate::operation::Output;
use crate::telemetry::{Asked, add};

/// The final answer to a request.
pub struct Answered {
    /// The result, or why there is none.
    pub outcome: Result<Unwritten, Failure>,
    /// From the bridge to a worker.
    pub queue_time: Duration,
    /// On the worker.
    pub service_time: Duration,
}

/// A request that is owed an answer. Dropped without one, its client has left.
pub(super) struct Unanswered {
    pub(super) hall: Arc<Hall>,
    asked: Asked,
    answered: bool,
    /// Once it was waited with.
    alarm: Option<Box<Alarm>>,
}

impl Unanswered {
    pub(super) fn new(hall: Arc<Hall>, asked: Asked) -> Self {
        Self { hall, asked, answered: false, alarm: None }
    }

    /// The connection's, unless another request of it has that.
    pub(super) fn alarm(&mut self) -> &mut Alarm {
        let hall = &self.hall;
        self.alarm.get_or_insert_with(|| {
            let left = hall.alarm.lock().unwrap_or_else(PoisonError::into_inner).take();
            left.unwrap_or_else(|| Box::new(hall.alarm()))
        })
    }

    pub(super) fn answer(&mut self, answer: Answer) -> Answered {
        let Answer { outcome, queue_time, service_time, mut held, .. } = answer;
        let metrics = &self.hall.world.metrics;
        let n_bytes = outcome.as_ref().map_or(0, |output| output.0.len() as u64);
        held.shrink_to(n_bytes);
        self.answered = true;
        match &outcome {
            Ok(_) => {
                metrics.replied(self.asked, 1);
                add(&metrics.bytes_out, n_bytes);
            }
            Err(failure) => metrics.failed(self.asked, failure),
        }
        let unwritten = |Output(bytes)| Unwritten::new(Arc::clone(&self.hall), bytes, held);
        Answered { outcome: outcome.map(unwritten), queue_time, service_time }
    }

    pub(super) fn failed(&mut self, failure: &Failure) {
        if !std::mem::replace(&mut self.answered, true) {
            self.hall.world.metrics.failed(self.asked, failure);
        }
    }

    pub(super) fn refuse(&mut self, failure: Failure) -> Answered {
        self.failed(&failure);
        Answered { outcome: Err(failure), queue_time: Duration::ZERO, service_time: Duration::ZERO }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        if !self.answered {
            self.hall.world.metrics.unanswered(self.asked);
            // What it holds is held until a worker comes across it.
            self.hall.world.workers.wake();
        }
        self.hall.in_flight.fetch_sub(1, Ordering::Relaxed);
        if let Some(alarm) = self.alarm.take() {
            *self.hall.alarm.lock().unwrap_or_else(PoisonError::into_inner) = Some(alarm);
        }
    }
}

/// A result on its way out. What it holds is held until it is dropped, which is when it is written.
pub struct Unwritten {
    hall: Arc<Hall>,
    /// What is left of it.
    bytes: Bytes,
    /// All of it.
    n_bytes: u64,
    _held: HeldBytes,
}

impl Unwritten {
    fn new(hall: Arc<Hall>, bytes: Bytes, held: HeldBytes) -> Self {
        let n_bytes = bytes.len() as u64;
        hall.unwritten_bytes.fetch_add(n_bytes, Ordering::Relaxed);
        Self { hall, bytes, n_bytes, _held: held }
    }
}

impl Buf for Unwritten {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, n_bytes: usize) {
        self.bytes.advance(n_bytes);
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.hall.unwritten_bytes.fetch_sub(self.n_bytes, Ordering::Relaxed);
    }
}
