//! What the last request of a turn asked for, so that the next one that asks for the same is not looked up again.
//!
//! Clients that pipeline mostly ask for one thing many times. What they ask for stands at the beginning of a header,
//! byte for byte the same; what may differ, such as the time of sending, comes behind it.

use std::time::Duration;

use windlass_protocol::{DecodeError, Header, PRIORITY_INTERACTIVE};

use crate::dispatch::{Class, Failure};
use crate::io::admit::Task;
use crate::telemetry::Asked;

/// Longest header that is kept, bytes: an operation and some parameters. It lies on the stack.
const HEADER_BYTES_MAX: usize = 128;

/// As what it is counted, and the task if it can be had.
pub(super) type Wanted = (Asked, Result<Task, Failure>);

/// What the daemon reads of the terms of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) deadline: Option<Duration>,
    pub(super) class: Class,
    pub(super) body_total: Option<u64>,
    /// An extension that has to be understood, which none is.
    pub(super) must_understand: Option<u16>,
}

impl Terms {
    /// Reads what follows the subject in a header.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let terms = windlass_protocol::Terms::decode(bytes)?;
        Ok(Self {
            deadline: terms.deadline.map(Duration::from_millis),
            class: if terms.priority == PRIORITY_INTERACTIVE { Class::Interactive } else { Class::Batch },
            body_total: terms.body_total,
            must_understand: terms.extensions.must_understand(),
        })
    }
}

/// The last request that could be had. It is of one turn, and so of one snapshot of the settings.
#[derive(Default)]
pub(super) struct Known(Option<Last>);

struct Last {
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    subject_len: usize,
    terms: Terms,
    body_bytes: u64,
    asked: Asked,
    task: Task,
}

impl Known {
    /// The task of a header and body length that ask for the same as the last, and the terms of this one.
    ///
    /// # Errors
    ///
    /// When the header begins like the last and does not go on like a header.
    pub(super) fn find(
        &self,
        header: &[u8],
        body_bytes: u64,
    ) -> Result<Option<(Wanted, Terms)>, DecodeError> {
        let Some(last) = self.0.as_ref().filter(|last| last.body_bytes == body_bytes) else {
            return Ok(None);
        };
        let terms = if header == &last.header[..last.header_len] {
            last.terms
        } else {
            match header.strip_prefix(&last.header[..last.subject_len]) {
                Some(rest) => Terms::decode(rest)?,
                None => return Ok(None),
            }
        };
        Ok(Some(((last.asked, Ok(last.task.clone())), terms)))
    }

    /// Keeps what a header was found to ask for. Its subject takes its first bytes.
    pub(super) fn note(
        &mut self,
        header: &[u8],
        subject_len: usize,
        terms: &Terms,
        body_bytes: u64,
        asked: Asked,
        task: &Task,
    ) {
        let mut kept = [0; HEADER_BYTES_MAX];
        let Some(place) = kept.get_mut(..header.len()) else { return };
        place.copy_from_slice(header);
        let (header_len, terms, task) = (header.len(), *terms, task.clone());
        self.0 = Some(Last { header: kept, header_len, subject_len, terms, body_bytes, asked, task });
    }
}

#[cfg(test)]
mod tests {
    use windlass_protocol::{Extensions, Kind, PREFIX_BYTES, Subject, Work, append_frame};

    use super::*;
    use crate::dispatch::Cost;
    use crate::operation::{Arguments, Estimate, OperationIndex};

    fn task(entry: usize) -> Task {
        let estimate = Estimate { cpu: Duration::from_micros(1), output_bytes: 0, work_bytes: 0 };
        let cost = Cost { estimate, cpu: estimate.cpu, is_known: false };
        Task { entry, arguments: Arguments::default(), cost, hold: None }
    }

    fn header(operation: &str, sent_at: u64, deadline: u64) -> Vec<u8> {
        let mut frame = Vec::new();
        let work = Work {
            operation,
            parameters: vec![("name", "value")],
            sent_at,
            deadline: Some(deadline),
            priority: PRIORITY_INTERACTIVE,
            body_total: None,
            extensions: Extensions::default(),
        };
        append_frame(&mut frame, Kind::Work, 1, &work, b"");
        frame.split_off(PREFIX_BYTES)
    }

    fn note(known: &mut Known, header: &[u8], asked: Asked, entry: usize) {
        let (_, subject_len) = Subject::decode(header).unwrap();
        let terms = Terms::decode(&header[subject_len..]).unwrap();
        known.note(header, subject_len, &terms, 64, asked, &task(entry));
    }

    fn deadline(found: Option<(Wanted, Terms)>) -> Duration {
        found.unwrap().1.deadline.unwrap()
    }

    #[test]
    fn the_same_subject_with_a_body_of_the_same_length_is_known_and_the_terms_are_its_own() {
        let mut known = Known::default();
        let first = header("echo", 1, 1000);
        assert!(known.find(&first, 64).unwrap().is_none());
        let asked = Asked::from(OperationIndex(3));
        note(&mut known, &first, asked, 7);
        let ((found, task), _) = known.find(&first, 64).unwrap().unwrap();
        assert_eq!((found, task.unwrap().entry), (asked, 7));
        assert_eq!(deadline(known.find(&first, 64).unwrap()), Duration::from_secs(1));
        assert_eq!(deadline(known.find(&header("echo", 2, 5000), 64).unwrap()), Duration::from_secs(5));
        assert!(known.find(&first, 65).unwrap().is_none());
        assert!(known.find(&header("hash", 1, 1000), 64).unwrap().is_none());
        assert!(known.find(b"", 64).unwrap().is_none());
    }

    #[test]
    fn a_known_subject_does_not_excuse_what_follows_it() {
        let mut known = Known::default();
        let whole = header("echo", 1, 1000);
        note(&mut known, &whole, Asked::UNKNOWN, 7);
        assert!(known.find(&whole[..whole.len() - 1], 64).is_err());
        assert!(known.find(&[&whole[..], &[0]].concat(), 64).is_err());
    }

    #[test]
    fn what_is_too_long_is_not_kept_and_what_was_kept_stays_right() {
        let mut known = Known::default();
        note(&mut known, &header("echo", 1, 1000), Asked::UNKNOWN, 7);
        let long = [header("echo", 1, 1000), vec![0; HEADER_BYTES_MAX]].concat();
        let terms = Terms { deadline: None, class: Class::Batch, body_total: None, must_understand: None };
        known.note(&long, long.len(), &terms, 64, Asked::UNKNOWN, &task(8));
        assert_eq!(known.find(&header("echo", 1, 1000), 64).unwrap().unwrap().0.1.unwrap().entry, 7);
    }
}
