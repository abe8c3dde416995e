//! Staying awake for a moment, for what is sooner than a thread that sleeps can be woken.

use std::time::Instant;

/// Stays awake until something is so or it is too late; says whether it was so in time.
pub(crate) fn stay_awake(until: Instant, is_so: impl Fn() -> bool) -> bool {
    while !is_so() {
        if Instant::now() >= until {
            return false;
        }
        // Whoever else has something to do on this core goes first.
        std::thread::yield_now();
    }
    Instant::now() < until
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_ends_with_what_is_looked_for_or_when_it_is_too_late() {
        let n_looks = Cell::new(0);
        let third = || n_looks.replace(n_looks.get() + 1) == 2;
        assert!(stay_awake(Instant::now() + Duration::from_secs(3600), third));
        assert_eq!(n_looks.get(), 3);
        let until = Instant::now() + Duration::from_micros(10);
        assert!(!stay_awake(until, || false));
        assert!(Instant::now() >= until);
        assert!(!stay_awake(until, || true), "too late");
    }
}
