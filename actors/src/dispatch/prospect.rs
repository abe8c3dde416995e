//! Requests that would come to the queue: whether what is foreseen for them is what they can bear.

use std::time::{Duration, Instant};

use super::client::{Bid, again};
use super::{Bridge, Class, Client, Failure, Newcomer};
use crate::operation::{Entry, OperationIndex};
use crate::settings::QueueSettings;

/// A request that would come to the queue, or that has been there and asks anew.
pub(crate) struct Prospect<'a> {
    pub(crate) client: &'a Client,
    pub(crate) class: Class,
    /// Its own estimate.
    pub(crate) cpu: Duration,
    /// What it takes at least.
    pub(crate) cpu_least: Duration,
    /// Its operation, and how many such jobs may run at the same time, where that is bounded.
    pub(crate) restricted: Option<(OperationIndex, usize)>,
    pub(crate) queue: &'a QueueSettings,
    /// Until its deadline.
    pub(crate) allowed: Duration,
    pub(crate) now: Instant,
}

/// The part of the time that a request has to wait, by its deadline or `queue.max_wait`, that it is not admitted for:
/// one in this many.
const MARGIN: u32 = 4;

impl Prospect<'_> {
    /// The longest wait that may be foreseen for it. A prediction may be off, what was accepted is not to be dropped for
    /// that, and an answer has a way to go.
    fn foreseen_max(&self) -> Duration {
        let wait_max = self.queue.wait_max.min(self.allowed.saturating_sub(self.cpu_least));
        wait_max - wait_max / MARGIN
    }
}

impl Bridge {
    /// The operation of a request that may have to wait for more than a worker, and how many such may run at once.
    pub(crate) fn restricted(&self, entry: &Entry, work_bytes: u64) -> Option<(OperationIndex, usize)> {
        self.budget.at_once(entry, work_bytes).map(|at_once| (entry.index, at_once))
    }

    fn newcomer<'a>(&self, prospect: &Prospect<'a>) -> Newcomer<'a> {
        let Prospect { client, class, cpu, restricted, queue, now, .. } = *prospect;
        let workers = self.places.limit();
        let restricted = restricted.filter(|(_, at_once)| *at_once < workers);
        let (batch_share, free_in) = (queue.batch_share, Duration::ZERO);
        Newcomer { client, class, cpu, restricted, workers, free_in, batch_share, now }
    }

    /// Refuses what the queue would make too late. `free_in` says when the first of the workers is free, and is asked
    /// only where that may matter.
    ///
    /// # Errors
    ///
    /// Overloaded, with the time after which the same request would come in.
    pub(crate) fn soon_enough(
        &self,
        prospect: &Prospect<'_>,
        free_in: impl FnOnce() -> Duration,
    ) -> Result<(), Failure> {
        let Prospect { client, class, now, .. } = *prospect;
        let wait_max = prospect.foreseen_max();
        let newcomer = self.newcomer(prospect);
        let is_soon = self.backlog.wait_at_most(&newcomer).is_some_and(|wait| wait <= wait_max);
        if is_soon && !client.was_refused(class) {
            return Ok(());
        }
        let outlook = self.backlog.outlook(&Newcomer { free_in: free_in(), ..newcomer });
        let refused = |back_in| Failure::late(outlook.wait, wait_max).retry_after(back_in);
        client.may_wait(&Bid { class, outlook: &outlook, wait_max, now }).map_err(refused)
    }

    /// After what time the same request would be admitted that is given up now, after it was.
    pub(crate) fn back_in(&self, prospect: &Prospect<'_>, free_in: Duration) -> Duration {
        let newcomer = Newcomer { free_in, ..self.newcomer(prospect) };
        self.backlog.outlook(&newcomer).back_in(again(prospect.foreseen_max()))
    }

    /// After what time one of so many requests of the same client may end: by the time one more would be done all of
    /// them are, one after the other.
    pub(crate) fn ends_in(&self, prospect: &Prospect<'_>, free_in: Duration, n: usize) -> Duration {
        let outlook = self.backlog.outlook(&Newcomer { free_in, ..self.newcomer(prospect) });
        (outlook.back_in(Duration::ZERO) + prospect.cpu) / u32::try_from(n.max(1)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;

    use super::*;
    use crate::dispatch::{Budget, ClientKey};

    const SECOND: Duration = Duration::from_secs(1);

    fn bridge() -> Bridge {
        Bridge::new(2, Budget::new(1 << 20, 1))
    }

    fn queue(wait_max: Duration) -> QueueSettings {
        let settings = crate::dispatch::tests::settings();
        QueueSettings { wait_max, capacity: NonZeroUsize::MIN, ..settings.queue.clone() }
    }

    fn prospect<'a>(client: &'a Arc<Client>, queue: &'a QueueSettings) -> Prospect<'a> {
        let (cpu, cpu_least, allowed) = (SECOND / 10, SECOND / 10, Duration::MAX);
        let (class, now) = (Class::Interactive, Instant::now());
        Prospect { client, class, cpu, cpu_least, restricted: None, queue, allowed, now }
    }

    #[test]
    fn what_was_accepted_is_in_time_where_everything_takes_a_third_longer_than_foreseen() {
        let client = Client::new(ClientKey::Uid(1), &bridge().backlog);
        for wait_max in [Duration::ZERO, SECOND, 10 * SECOND, Duration::MAX] {
            let queue = queue(wait_max);
            let foreseen_max = prospect(&client, &queue).foreseen_max();
            assert!(foreseen_max.as_secs_f64() * 1.333 <= wait_max.as_secs_f64(), "{wait_max:?}");
        }
    }

    #[test]
    fn who_is_given_up_is_told_when_it_would_be_admitted() {
        let (bridge, queue) = (bridge(), queue(8 * SECOND));
        let flood = Client::new(ClientKey::Uid(1), &bridge.backlog);
        (0..160).for_each(|_| flood.enters(Class::Interactive, SECOND / 10));
        bridge.backlog.count_waiting(160);
        let other = Client::new(ClientKey::Uid(2), &bridge.backlog);
        assert_eq!(bridge.back_in(&prospect(&other, &queue), Duration::ZERO), Duration::ZERO, "at once");
        // 15.8 s for two workers, of which it comes in behind 5.25 s.
        let told = bridge.back_in(&prospect(&flood, &queue), Duration::ZERO);
        assert_eq!(told.as_millis(), 7900 - 5250);
        let told = bridge.ends_in(&prospect(&flood, &queue), Duration::ZERO, 160);
        assert_eq!(told.as_millis(), 50, "one after the other");
    }
    #[test]
    fn what_runs_for_long_on_every_worker_is_waited_for() {
        let (bridge, queue) = (bridge(), queue(8 * SECOND));
        let client = Client::new(ClientKey::Uid(1), &bridge.backlog);
        let asks = |free_in| bridge.soon_enough(&prospect(&client, &queue), || free_in);
        assert!(asks(20 * SECOND).is_ok(), "nothing runs, and nobody looks");
        bridge.backlog.count_running(2 * 25 * SECOND);
        assert!(asks(6 * SECOND).is_ok());
        let refused = asks(7 * SECOND).unwrap_err();
        assert_eq!(refused.retry_after.unwrap().as_millis(), 7000 - 5250);
    }
}
