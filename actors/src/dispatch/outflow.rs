//! How fast what is held is given back, so that whoever finds no room is told when there may be some.
//!
//! Counted where it is given back, and made into a rate only where somebody is refused. Refusals come in episodes: what
//! was given back in peaceful times says nothing of how fast it goes when all is full.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

/// What is given back in smaller pieces is not counted: it is a small part of memory that is full, and counting it
/// would cost more than it says.
const COUNTED_MIN: u64 = 1024;

/// Bytes per second that are taken to be given back before anything was measured.
const FIRST_GUESS: f64 = 512.0 * 1024.0 * 1024.0;

/// What was measured counts as much as what was known before after this time.
const SETTLES_IN: Duration = Duration::from_millis(50);

/// After this time what was measured is what is known.
const WINDOW: Duration = Duration::from_millis(500);

/// An episode is over when nobody was refused for so long.
const PEACE: Duration = Duration::from_secs(1);

/// What is given back, and how fast.
#[derive(Debug)]
pub(super) struct Outflow {
    /// Bytes since the start. In a cache line of its own: those who give back wait for nobody who looks.
    bytes: CachePadded<AtomicU64>,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    since: Option<Instant>,
    asked_at: Option<Instant>,
    /// Given back before it began.
    bytes: u64,
    /// What was known when it began, bytes per second.
    rate: f64,
}

impl Default for Outflow {
    fn default() -> Self {
        let window = Window { since: None, asked_at: None, bytes: 0, rate: FIRST_GUESS };
        Self { bytes: CachePadded::default(), window: Mutex::new(window) }
    }
}

impl Outflow {
    /// So many bytes were given back.
    pub(super) fn add(&self, bytes: u64) {
        if bytes >= COUNTED_MIN {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// How long it takes until so many bytes are given back.
    pub(super) fn time_for(&self, bytes: u64, now: Instant) -> Duration {
        // Only those who are refused meet here.
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.time_for(bytes, self.bytes.load(Ordering::Relaxed), now)
    }
}

impl Window {
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than that")]
    fn time_for(&mut self, bytes: u64, given_back: u64, now: Instant) -> Duration {
        let is_over = |at| now.saturating_duration_since(at) > PEACE;
        if self.asked_at.is_none_or(is_over) {
            (self.since, self.bytes) = (Some(now), given_back);
        }
        self.asked_at = Some(now);
        let lasting = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let measured = given_back.saturating_sub(self.bytes);
        let known = self.rate * SETTLES_IN.as_secs_f64();
        let rate = (measured as f64 + known) / (lasting + SETTLES_IN).as_secs_f64();
        // As long as nothing is given back the window stays open, and each answer is longer than the one before.
        if lasting > WINDOW && measured > 0 {
            (self.since, self.bytes, self.rate) = (Some(now), given_back, rate);
        }
        Duration::try_from_secs_f64(bytes as f64 / rate).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const MS: Duration = Duration::from_millis(1);

    /// Gives back 8 MiB every 100 ms for so many of them, as others are refused all the time; says when there is room
    /// for 8 MiB more.
    fn after(outflow: &Outflow, from: Instant, hundreds: u32) -> Duration {
        for n in 0..hundreds * 10 {
            outflow.time_for(MIB, from + 10 * n * MS);
            if n % 10 == 9 {
                outflow.add(8 * MIB);
            }
        }
        outflow.time_for(8 * MIB, from + 100 * hundreds * MS)
    }

    #[test]
    fn what_is_told_is_what_was_measured() {
        let (outflow, start) = (Outflow::default(), Instant::now());
        assert!(outflow.time_for(32 * MIB, start) > 50 * MS, "before anything was");
        for hundreds in [5, 20, 100] {
            let told = after(&Outflow::default(), start, hundreds);
            assert!(told > 50 * MS && told < 200 * MS, "after {hundreds} times 8 MiB in 100 ms: {told:?}");
        }
    }

    #[test]
    fn peaceful_times_count_for_nothing() {
        let (outflow, start) = (Outflow::default(), Instant::now());
        after(&outflow, start, 20);
        let told = outflow.time_for(8 * MIB, start + Duration::from_secs(3600));
        assert!(told > 50 * MS && told < 200 * MS, "{told:?}");
    }

    #[test]
    fn while_nothing_is_given_back_the_time_grows() {
        let (outflow, start) = (Outflow::default(), Instant::now());
        let told = |seconds: u32| {
            let told = (0..=seconds * 10).map(|n| outflow.time_for(64 * MIB, start + 100 * n * MS));
            told.last().unwrap_or_default()
        };
        assert!(told(2) > Duration::from_secs(2));
        outflow.add(64 * MIB);
        let then = outflow.time_for(64 * MIB, start + 2001 * MS);
        assert!(then < Duration::from_secs(2), "{then:?}");
    }
}
