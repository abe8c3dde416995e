//! The daemons that a client may ask, and what it knows of each: which is less busy, which is better left alone.
//!
//! The choice is that of two (Mitzenmacher, *The Power of Two Choices in Randomized Load Balancing*, 2001): of two
//! daemons taken at random the less loaded one. Always taking the least loaded would send every client to the same
//! one until its next answer.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::client::options::Backoff;

/// After this time what a daemon said of its load says nothing any more; until then it fades evenly, so that a daemon
/// that once was busy is asked again.
const LOAD_KEPT: Duration = Duration::from_secs(5);

/// Loads are compared in this many parts of a per cent, so that a fading load has no steps.
const LOAD_UNIT: u128 = 1000;

pub(super) struct Endpoints {
    known: Vec<Endpoint>,
    backoff: Backoff,
}

#[derive(Default)]
struct Endpoint {
    /// The last load that it told, 0 to 100, and when.
    load: Option<(u8, Instant)>,
    /// How often in a row it refused or could not be reached.
    failed: u32,
    /// Until then others are asked first.
    rests_until: Option<Instant>,
    /// Attempts of this client that have not ended.
    in_flight: u32,
}

impl Endpoints {
    pub(super) fn new(count: usize, backoff: Backoff) -> Self {
        Self { known: (0..count).map(|_| Endpoint::default()).collect(), backoff }
    }

    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Until when others are better asked first.
    pub(super) fn rests_until(&self, index: usize) -> Option<Instant> {
        self.known[index].rests_until
    }

    /// The better of two of the `candidates`, of which there is at least one.
    pub(super) fn better_of_two(&self, candidates: &[usize], now: Instant, rng: &mut Rng) -> usize {
        let one = rng.usize(..candidates.len());
        if candidates.len() == 1 {
            return candidates[one];
        }
        // Any other, each as likely: the draw leaves a gap where the first one stands.
        let other = rng.usize(..candidates.len() - 1);
        let other = if other >= one { other + 1 } else { other };
        let (one, other) = (candidates[one], candidates[other]);
        if self.cost(other, now) < self.cost(one, now) { other } else { one }
    }

    /// What the daemon says of its load times what this client has under way there, which the daemon may not have
    /// seen yet; each counted from one, so that either alone decides where the other is equal.
    fn cost(&self, index: usize, now: Instant) -> u128 {
        let endpoint = &self.known[index];
        let load = endpoint.load.map_or(0, |(load, told)| {
            let left = LOAD_KEPT.saturating_sub(now.saturating_duration_since(told));
            u128::from(load) * LOAD_UNIT * left.as_millis() / LOAD_KEPT.as_millis()
        });
        (load + LOAD_UNIT) * u128::from(endpoint.in_flight + 1)
    }

    /// An attempt begins there.
    pub(super) fn enter(&mut self, index: usize) {
        self.known[index].in_flight += 1;
    }

    /// An attempt has ended there, in whatever way.
    pub(super) fn leave(&mut self, index: usize) {
        let endpoint = &mut self.known[index];
        endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
    }

    /// It did what was asked, or said what is wrong with that.
    pub(super) fn answered(&mut self, index: usize, load: Option<u8>, now: Instant) {
        let endpoint = &mut self.known[index];
        endpoint.failed = 0;
        endpoint.load = load.map(|load| (load, now)).or(endpoint.load);
    }

    /// It had no room.
    pub(super) fn refused(&mut self, index: usize, load: u8, retry_after: Option<Duration>, now: Instant) {
        self.known[index].load = Some((load, now));
        self.rest(index, retry_after, now);
    }

    /// It could not be reached, left, or lost what it was asked.
    pub(super) fn away(&mut self, index: usize, now: Instant) {
        self.rest(index, None, now);
    }

    /// Without jitter: who rests is passed over, and nobody comes back at the end of it because of it. Bounded, since
    /// what asked too much of a daemon may have been that one request.
    fn rest(&mut self, index: usize, asked: Option<Duration>, now: Instant) {
        let endpoint = &mut self.known[index];
        endpoint.failed = endpoint.failed.saturating_add(1);
        let rest = asked.unwrap_or_else(|| self.backoff.ceiling(endpoint.failed)).min(self.backoff.longest);
        endpoint.rests_until = endpoint.rests_until.max(now.checked_add(rest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(1) };

    fn endpoints(count: usize) -> Endpoints {
        Endpoints::new(count, BACKOFF)
    }

    /// How often each of `count` daemons is chosen of 10,000 times.
    fn chosen(endpoints: &Endpoints, now: Instant) -> Vec<usize> {
        let all: Vec<usize> = (0..endpoints.count()).collect();
        let (mut rng, mut counts) = (Rng::with_seed(7), vec![0; all.len()]);
        for _ in 0..10_000 {
            counts[endpoints.better_of_two(&all, now, &mut rng)] += 1;
        }
        counts
    }

    #[test]
    fn equals_are_chosen_equally() {
        for count in chosen(&endpoints(4), Instant::now()) {
            assert!((2_300..2_700).contains(&count), "{count}");
        }
    }

    /// W-46
    #[test]
    fn of_two_the_less_loaded_one_is_chosen_and_of_many_never_the_most_loaded() {
        let now = Instant::now();
        let mut two = endpoints(2);
        two.answered(0, Some(80), now);
        two.answered(1, Some(79), now);
        assert_eq!(chosen(&two, now), [0, 10_000]);
        let mut four = endpoints(4);
        for (index, load) in [(0, 10), (1, 100), (2, 50), (3, 50)] {
            four.answered(index, Some(load), now);
        }
        let counts = chosen(&four, now);
        assert_eq!(counts[1], 0);
        // One of two taken at random is the least loaded half of the time: it is not the only one that is asked.
        assert!((4_700..5_300).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn what_is_under_way_counts_with_the_load() {
        let now = Instant::now();
        let mut two = endpoints(2);
        two.enter(0);
        assert_eq!(chosen(&two, now), [0, 10_000]);
        two.leave(0);
        two.answered(1, Some(100), now);
        (0..50).for_each(|_| two.enter(0));
        assert_eq!(chosen(&two, now), [10_000, 0], "fifty under way are less than a daemon at its limit");
    }

    #[test]
    fn a_load_fades_until_it_says_nothing() {
        let now = Instant::now();
        let mut two = endpoints(2);
        two.answered(0, Some(100), now);
        two.answered(1, Some(20), now + LOAD_KEPT);
        assert_eq!(chosen(&two, now + LOAD_KEPT), [10_000, 0]);
        // Ten of a hundred are left of the one, twenty of the other.
        two.answered(0, Some(100), now + LOAD_KEPT / 10);
        assert_eq!(chosen(&two, now + LOAD_KEPT), [10_000, 0]);
        two.answered(0, Some(100), now + LOAD_KEPT / 2);
        assert_eq!(chosen(&two, now + LOAD_KEPT), [0, 10_000]);
    }

    #[test]
    fn who_refuses_rests_as_long_as_asked_and_who_is_away_longer_each_time() {
        let now = Instant::now();
        let mut one = endpoints(1);
        let rest = |endpoints: &Endpoints, now| endpoints.rests_until(0).map(|until| until - now);
        assert_eq!(rest(&one, now), None);
        one.refused(0, 100, Some(Duration::from_millis(300)), now);
        assert_eq!(rest(&one, now), Some(Duration::from_millis(300)));
        one.refused(0, 100, Some(Duration::from_secs(60)), now);
        assert_eq!(rest(&one, now), Some(BACKOFF.longest));
        let later = now + Duration::from_secs(10);
        one.answered(0, None, later);
        for expected in [100, 200, 400, 800, 1000, 1000] {
            one.away(0, later);
            assert_eq!(rest(&one, later), Some(Duration::from_millis(expected)));
        }
    }
}
