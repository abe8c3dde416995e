//! The I/O world: listeners, connections, and what they share. It never computes and never blocks.

mod admit;
mod alarm;
mod bind;
mod census;
mod connection;
mod hall;
mod inbound;
mod inflight;
mod listener;
mod lookout;
mod outbox;
mod parting;
mod refusal;
mod session;
mod stream;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use windlass_protocol::PREFIX_BYTES;
use windlass_protocol::limits::HEADER_BYTES_MAX;

use crate::cpu::Workers;
use crate::dispatch::{Batch, Client, ClientKey, Clients};
use crate::lifecycle::Phase;
use crate::settings::Settings;
use crate::telemetry::Metrics;

pub use alarm::{Alarm, Rang};
pub use bind::BindError;
pub(crate) use bind::BoundListener;
pub(crate) use census::{Census, DoorName};
pub use hall::{Answered, FrontDoor, Hall, Head, Impatience, Ticket, Unwritten};
pub(crate) use listener::{Door, Listener, ListenerError};
pub use lookout::look_out;
pub use parting::LINGER;
pub(crate) use refusal::REFUSALS_MAX;
pub use stream::Stream;

/// What all listeners and connections share.
pub(crate) struct IoWorld {
    /// The snapshot in force; a request keeps the one that it was admitted under.
    pub(crate) settings: ArcSwap<Settings>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) census: Arc<Census>,
    pub(crate) clients: Clients,
    /// Places for connections that are told that there is none, at all doors together.
    pub(crate) refusals: Arc<Semaphore>,
    pub(crate) connection_numbers: AtomicU64,
    /// What the daemon calls itself in Welcome.
    pub(crate) server: String,
    /// Where HTTP is spoken, for those who try it on the native port.
    pub(crate) http_hint: String,
}

impl IoWorld {
    /// Whose work that of a connection is.
    pub(crate) fn client(&self, key: ClientKey) -> Arc<Client> {
        self.clients.find(key, &self.workers.bridge.backlog)
    }

    /// Hands a batch over to the workers. Its answer is looked out for if it is light and they have nothing else to do.
    pub(crate) fn submit(&self, batch: Batch) {
        let bridge = &self.workers.bridge;
        let is_all = batch.is_light() && bridge.admission.slots() == batch.len();
        lookout::hands_over(&batch, bridge, is_all);
        self.workers.submit(batch);
    }

    /// The phase of the daemon if it is beyond `seen`. The end of the supervisor is the last one.
    pub(crate) fn phase_beyond(&self, seen: Phase) -> Option<Phase> {
        let now = match self.phase.has_changed() {
            // As it mostly is; the world's own receiver never notes that it has looked.
            Ok(false) => return None,
            Ok(true) => *self.phase.borrow(),
            Err(_) => Phase::Over,
        };
        (now > seen).then_some(now)
    }

    /// Whether the supervisor is gone, and nobody waits for connections any more.
    pub(crate) fn is_left(&self) -> bool {
        self.phase.has_changed().is_err()
    }

    /// How busy the daemon is: 0 is idle, 50 all workers busy and nothing waiting, 100 a wait of `queue.max_wait` or
    /// a full queue. While requests are refused for how long they would wait it is 75 at least.
    pub(crate) fn load(&self) -> u8 {
        let bridge = &self.workers.bridge;
        let n_workers = self.n_workers();
        let settings = self.settings.load();
        let queue = Queue {
            waiting: bridge.waiting_jobs(),
            capacity: settings.queue.capacity.get(),
            wait: bridge.backlog.begins_in(n_workers),
            wait_max: settings.queue.wait_max,
        };
        let busy = 50 * bridge.places.awake().min(n_workers) / n_workers;
        let load = u8::try_from(busy).unwrap_or(50) + queue.fullness();
        if bridge.backlog.is_pressed_now() { load.max(PRESSED_LOAD) } else { load }
    }

    /// How many workers the pool in force has; a reload may change it.
    pub(crate) fn n_workers(&self) -> usize {
        self.workers.bridge.places.limit()
    }

    /// Largest frame that is read: a body in one piece, with a full head.
    pub(crate) fn frame_bytes_max(&self) -> u32 {
        let body = self.settings.load().limits.body_bytes_max;
        let head = PREFIX_BYTES as u64 + u64::from(HEADER_BYTES_MAX);
        u32::try_from(body.saturating_add(head)).unwrap_or(u32::MAX)
    }

    /// Most requests that may wait and run together.
    pub(crate) fn slots_max(&self, settings: &Settings) -> usize {
        settings.queue.capacity.get().saturating_add(self.n_workers())
    }
}

/// Least load of a daemon that refuses requests.
const PRESSED_LOAD: u8 = 75;

/// What waits for the workers, against the most that may.
struct Queue {
    waiting: usize,
    capacity: usize,
    wait: Duration,
    wait_max: Duration,
}

impl Queue {
    /// From 0, nothing, to 50, a limit.
    fn fullness(&self) -> u8 {
        if self.waiting == 0 {
            return 0;
        }
        let by_number = 50 * self.waiting.min(self.capacity) / self.capacity.max(1);
        let by_time = 50.0 * (self.wait.as_secs_f32() / self.wait_max.as_secs_f32()).min(1.0);
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of 50, or no number"
        )]
        let by_time = by_time as u8;
        by_time.max(u8::try_from(by_number).unwrap_or(50))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_as_full_as_the_nearer_of_its_limits_is_near() {
        let ms = Duration::from_millis;
        let fullness = |waiting, wait| {
            Queue { waiting, capacity: 1000, wait: ms(wait), wait_max: ms(10_000) }.fullness()
        };
        assert_eq!(fullness(0, 0), 0);
        assert_eq!(fullness(20, 5000), 25, "a few long jobs");
        assert_eq!(fullness(500, 10), 25, "many short ones");
        assert_eq!(fullness(2000, 60_000), 50);
    }
}
