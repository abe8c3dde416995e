//! After a burst, what it needed goes back to the system.
//!
//! Allocators of today return free memory with a delay, and look for what is due only when they are called for
//! something large. A daemon that has come to rest calls them for nothing, and would keep the memory of its busiest
//! moment until the next request.

use std::hint::black_box;

/// How many looks after the last batch was taken the allocator is called: beyond the delay of any, one second each.
const LOOKS: u32 = 5;

/// Large enough that an allocator takes it from, and gives it back to, where it looks for what is due. It is never
/// touched, so it costs two calls and no memory.
const LARGE_BYTES: usize = 4 << 20;

/// Whether there is anything to do.
#[derive(Default)]
pub(crate) struct Tidy {
    taken: u64,
    looks_left: u32,
}

impl Tidy {
    /// To be called once a second, with how many batches workers have taken since the start.
    pub(crate) fn look(&mut self, taken: u64) {
        if self.is_due(taken) {
            drop(black_box(Vec::<u8>::with_capacity(LARGE_BYTES)));
        }
    }

    fn is_due(&mut self, taken: u64) -> bool {
        if self.taken != taken {
            (self.taken, self.looks_left) = (taken, LOOKS);
            return false;
        }
        let is_due = self.looks_left > 0;
        self.looks_left = self.looks_left.saturating_sub(1);
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_done_a_few_times_after_work_and_never_without() {
        let mut tidy = Tidy::default();
        let mut due = |taken: &[u64]| taken.iter().filter(|taken| tidy.is_due(**taken)).count();
        assert_eq!(due(&[0; 100]), 0);
        assert_eq!(due(&[1, 2, 3]), 0, "not while it works");
        assert_eq!(due(&[3; 100]), LOOKS as usize);
        assert_eq!(due(&[4; 100]), LOOKS as usize);
    }
}
