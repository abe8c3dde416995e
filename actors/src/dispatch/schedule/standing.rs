//! Whether the queue stands: a burst is absorbed, a queue that never empties only makes everybody wait.
//!
//! As in CoDel (RFC 8289), by the shortest wait of an interval: a burst, however long its queue, has somebody in each
//! interval who hardly waited; a standing queue has nobody. Each client's queue is one of its own, so those who have
//! nothing more behind them do not count: beside a flood somebody always hardly waits, and that is what fairness is for.

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
    /// None while nobody had more behind it.
    shortest: Option<Duration>,
}

impl Standing {
    /// A batch was taken. How long it had waited, if its client has more that waits.
    pub(super) fn took(&mut self, wait: Option<Duration>, now: Instant) {
        self.stands(now);
        let interval = self.interval.get_or_insert(Interval { since: now, shortest: None });
        interval.shortest = [interval.shortest, wait].into_iter().flatten().min();
        if wait.is_some_and(|wait| wait <= WAIT_MAX) {
            self.stands = false;
        }
    }

    /// Whether the queue stands.
    pub(super) fn stands(&mut self, now: Instant) -> bool {
        let over = |interval: &mut Interval| now.saturating_duration_since(interval.since) >= INTERVAL;
        if let Some(interval) = self.interval.take_if(over) {
            self.stands = interval.shortest.is_some_and(|shortest| shortest > WAIT_MAX);
        }
        self.stands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes every 10 ms; whether the queue stands in the end.
    fn after(waits_in_ms: impl IntoIterator<Item = u64>) -> bool {
        after_all(waits_in_ms.into_iter().map(Some))
    }

    /// The same, where those who have nothing more behind them have no wait.
    fn after_all(waits_in_ms: impl IntoIterator<Item = Option<u64>>) -> bool {
        let (mut standing, mut now) = (Standing::default(), Instant::now());
        for wait in waits_in_ms {
            now += Duration::from_millis(10);
            standing.took(wait.map(Duration::from_millis), now);
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

    #[test]
    fn those_who_have_nothing_more_behind_them_do_not_hide_a_flood() {
        let beside = |flood: u64| (0..40).map(move |n| (n % 4 == 0).then_some(flood));
        assert!(after_all(beside(400)));
        assert!(!after_all(beside(400).chain([None; 20])), "the flood is over");
    }
}
