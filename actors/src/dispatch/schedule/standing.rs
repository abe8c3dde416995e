//! Whether the queue stands: a burst is absorbed, a queue that never empties only makes everybody wait.
//!
//! As in CoDel (RFC 8289), by the shortest wait of an interval: a burst, however long its queue, has somebody in each
//! interval who hardly waited; a standing queue has nobody.

use std::time::{Duration, Instant};

/// Over which the shortest wait is taken: some round trips of clients, as in the RFC.
const INTERVAL: Duration = Duration::from_millis(100);

/// The shortest wait of a queue that does not stand. More than the RFC's 5 ms, because what is queued here are jobs
/// of milliseconds, not packets.
const WAIT_MAX: Duration = Duration::from_millis(50);

/// The shortest wait of this interval, and what that of the last one said.
#[derive(Debug, Default)]
pub(super) struct Standing {
    interval: Option<Interval>,
    stands: bool,
}

#[derive(Debug)]
struct Interval {
    since: Instant,
    shortest: Duration,
}

impl Standing {
    /// A batch was taken that had waited for this long.
    pub(super) fn took(&mut self, wait: Duration, now: Instant) {
        self.stands(now);
        match &mut self.interval {
            Some(interval) => interval.shortest = interval.shortest.min(wait),
            None => self.interval = Some(Interval { since: now, shortest: wait }),
        }
        if wait <= WAIT_MAX {
            self.stands = false;
        }
    }

    /// Whether the queue stands.
    pub(super) fn stands(&mut self, now: Instant) -> bool {
        let over = |interval: &mut Interval| now.saturating_duration_since(interval.since) >= INTERVAL;
        if let Some(interval) = self.interval.take_if(over) {
            self.stands = interval.shortest > WAIT_MAX;
        }
        self.stands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes every 10 ms; whether the queue stands in the end.
    fn after(waits_in_ms: impl IntoIterator<Item = u64>) -> bool {
        let (mut standing, mut now) = (Standing::default(), Instant::now());
        for wait in waits_in_ms {
            now += Duration::from_millis(10);
            standing.took(Duration::from_millis(wait), now);
        }
        standing.stands(now)
    }

    #[test]
    fn a_queue_in_which_everybody_waits_stands() {
        assert!(after([400; 12]));
        assert!(!after([400; 9]), "not before an interval is over");
    }

    #[test]
    fn a_burst_does_not_stand_and_one_short_wait_ends_it() {
        assert!(!after((0..40).map(|n| if n % 10 == 5 { 1 } else { 400 })));
        assert!(!after([400; 30].into_iter().chain([1])));
    }
}
