//! What the last request of a turn asked for, so that the next one that asks for the same is not looked up again.
//!
//! Clients that pipeline mostly ask for one thing many times. What they ask for stands at the beginning of a header,
//! byte for byte the same; what differs, such as the time of sending, comes behind it.

use crate::dispatch::Failure;
use crate::io::admit::Task;
use crate::telemetry::Asked;

/// Longest beginning of a header that is kept, bytes: an operation and some parameters. It lies on the stack.
const SUBJECT_BYTES_MAX: usize = 96;

/// As what it is counted, and the task if it can be had.
pub(super) type Wanted = (Asked, Result<Task, Failure>);

/// The task of the last request. It is of one turn, and so of one snapshot of the settings.
#[derive(Default)]
pub(super) struct Known(Option<Last>);

struct Last {
    subject: [u8; SUBJECT_BYTES_MAX],
    subject_len: usize,
    body_bytes: u64,
    asked: Asked,
    task: Task,
}

impl Known {
    /// The task of a header and body length that ask for the same as the last, and the rest of the header.
    pub(super) fn find<'h>(&self, header: &'h [u8], body_bytes: u64) -> Option<(Wanted, &'h [u8])> {
        let last = self.0.as_ref().filter(|last| last.body_bytes == body_bytes)?;
        let rest = header.strip_prefix(&last.subject[..last.subject_len])?;
        Some(((last.asked, Ok(last.task.clone())), rest))
    }

    /// Keeps the task of a header that begins with `subject`.
    pub(super) fn note(&mut self, subject: &[u8], body_bytes: u64, asked: Asked, task: &Task) {
        let mut kept = [0; SUBJECT_BYTES_MAX];
        let Some(place) = kept.get_mut(..subject.len()) else { return };
        place.copy_from_slice(subject);
        self.0 =
            Some(Last { subject: kept, subject_len: subject.len(), body_bytes, asked, task: task.clone() });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::dispatch::Cost;
    use crate::operation::{Arguments, Estimate, OperationIndex};

    fn task(entry: usize) -> Task {
        let estimate = Estimate { cpu: Duration::from_micros(1), output_bytes: 0, work_bytes: 0 };
        let cost = Cost { estimate, cpu: estimate.cpu };
        Task { entry, arguments: Arguments::default(), cost, hold: None }
    }

    #[test]
    fn only_the_same_beginning_with_a_body_of_the_same_length_is_known() {
        let mut known = Known::default();
        assert!(known.find(b"echo-later", 64).is_none());
        let asked = Asked::from(OperationIndex(3));
        known.note(b"echo", 64, asked, &task(7));
        let ((found, task), rest) = known.find(b"echo-later", 64).unwrap();
        assert_eq!((found, task.unwrap().entry, rest), (asked, 7, &b"-later"[..]));
        assert!(known.find(b"echo-later", 65).is_none());
        assert!(known.find(b"ech", 64).is_none());
        assert!(known.find(b"hash-later", 64).is_none());
    }

    #[test]
    fn what_is_too_long_is_not_kept_and_what_was_kept_stays_right() {
        let mut known = Known::default();
        known.note(b"echo", 64, Asked::UNKNOWN, &task(7));
        known.note(&[b'x'; SUBJECT_BYTES_MAX + 1], 64, Asked::UNKNOWN, &task(8));
        assert!(known.find(&[b'x'; SUBJECT_BYTES_MAX + 2], 64).is_none());
        assert_eq!(known.find(b"echo", 64).unwrap().0.1.unwrap().entry, 7);
    }
}
