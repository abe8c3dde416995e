//! What the last request of a turn asked for, so that the next one that asks for the same is not looked up again.
//!
//! Clients mostly ask for one thing many times, and many of them for the same. What they ask for stands at the beginning
//! of a header, byte for byte the same; what may differ, such as the time of sending, comes behind it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use windlass_protocol::{DecodeError, Header, PRIORITY_INTERACTIVE};

use crate::dispatch::{Class, Failure};
use crate::io::admit::Task;
use crate::settings::Settings;
use crate::telemetry::Asked;

/// Longest header that is kept, bytes: an operation and some parameters.
const HEADER_BYTES_MAX: usize = 128;

thread_local! {
    /// What the last turn of this I/O thread asked for, of whichever connection.
    static KEPT: Cell<Option<Box<Last>>> = const { Cell::new(None) };
}

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

/// The last request that could be had.
#[derive(Default)]
pub(super) struct Known {
    last: Option<Box<Last>>,
    /// Whether its cost is of this turn.
    is_fresh: bool,
}

struct Last {
    /// In force when it was looked up.
    settings: Arc<Settings>,
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    subject_len: usize,
    terms: Terms,
    body_bytes: u64,
    asked: Asked,
    task: Task,
}

impl Known {
    /// What the turn before this one, if under the same settings, has left.
    pub(super) fn of_thread(settings: &Arc<Settings>) -> Self {
        let last = KEPT.take().filter(|last| Arc::ptr_eq(&last.settings, settings));
        Self { last, is_fresh: false }
    }

    /// Leaves it to the next turn.
    pub(super) fn keep(&mut self) {
        KEPT.set(self.last.take());
    }

    /// The task of a header and body length that ask for the same as the last, and the terms of this one. `price` says
    /// what a task costs by now.
    ///
    /// # Errors
    ///
    /// When the header begins like the last and does not go on like a header.
    pub(super) fn find(
        &mut self,
        header: &[u8],
        body_bytes: u64,
        price: impl FnOnce(&mut Task),
    ) -> Result<Option<(Wanted, Terms)>, DecodeError> {
        let Some(last) = self.last.as_mut().filter(|last| last.body_bytes == body_bytes) else {
            return Ok(None);
        };
        let terms = if header == &last.header[..last.header_len] {
            last.terms
        } else {
            let Some(rest) = header.strip_prefix(&last.header[..last.subject_len]) else { return Ok(None) };
            let terms = Terms::decode(rest)?;
            last.keep(header, terms);
            terms
        };
        if !self.is_fresh {
            price(&mut last.task);
            self.is_fresh = true;
        }
        Ok(Some(((last.asked, Ok(last.task.clone())), terms)))
    }

    /// The task of a header and body length that ask for the same as the last on the same terms, if they do.
    pub(super) fn same(&self, header: &[u8], body_bytes: u64) -> Option<(Asked, &Task)> {
        let last = self.last.as_ref().filter(|last| last.body_bytes == body_bytes)?;
        // What is sent a moment later says so, and nothing else.
        let is_same = header == &last.header[..last.header_len]
            || Terms::decode(header.strip_prefix(&last.header[..last.subject_len])?).ok()? == last.terms;
        is_same.then_some((last.asked, &last.task))
    }

    /// Keeps what a header was found to ask for.
    pub(super) fn note(&mut self, header: &[u8], read: Read<'_>) {
        let mut kept = [0; HEADER_BYTES_MAX];
        let Some(place) = kept.get_mut(..header.len()) else { return };
        place.copy_from_slice(header);
        let Read { settings, subject_len, terms, body_bytes, asked, task } = read;
        let last = Last {
            settings: Arc::clone(settings),
            header: kept,
            header_len: header.len(),
            subject_len,
            terms: *terms,
            body_bytes,
            asked,
            task: task.clone(),
        };
        match &mut self.last {
            Some(place) => **place = last,
            place => *place = Some(Box::new(last)),
        }
        self.is_fresh = true;
    }
}

impl Last {
    /// Keeps the rest of a header with the same subject, if there is room: whoever pipelines sends the next one at the
    /// same time, and so mostly the same to its last byte.
    fn keep(&mut self, header: &[u8], terms: Terms) {
        if let Some(place) = self.header.get_mut(..header.len()) {
            place.copy_from_slice(header);
            self.header_len = header.len();
            self.terms = terms;
        }
    }
}

/// What was read of a header, and looked up.
#[derive(Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) settings: &'a Arc<Settings>,
    /// The subject takes so many of the header's first bytes.
    pub(super) subject_len: usize,
    pub(super) terms: &'a Terms,
    pub(super) body_bytes: u64,
    pub(super) asked: Asked,
    pub(super) task: &'a Task,
}

#[cfg(test)]
mod tests {
    use windlass_protocol::{Extensions, Kind, PREFIX_BYTES, Subject, Work, append_frame};

    use super::*;
    use crate::dispatch::{Cost, test_settings as settings};
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
        let (settings, task) = (&settings(), &task(entry));
        known.note(header, Read { settings, subject_len, terms: &terms, body_bytes: 64, asked, task });
    }

    fn find(
        known: &mut Known,
        header: &[u8],
        body_bytes: u64,
    ) -> Result<Option<(Wanted, Terms)>, DecodeError> {
        known.find(header, body_bytes, |_| {})
    }

    fn deadline(found: Option<(Wanted, Terms)>) -> Duration {
        found.unwrap().1.deadline.unwrap()
    }

    #[test]
    fn the_same_subject_with_a_body_of_the_same_length_is_known_and_the_terms_are_its_own() {
        let mut known = Known::default();
        let first = header("echo", 1, 1000);
        assert!(find(&mut known, &first, 64).unwrap().is_none());
        let asked = Asked::from(OperationIndex(3));
        note(&mut known, &first, asked, 7);
        let ((found, task), _) = find(&mut known, &first, 64).unwrap().unwrap();
        assert_eq!((found, task.unwrap().entry), (asked, 7));
        assert_eq!(deadline(find(&mut known, &first, 64).unwrap()), Duration::from_secs(1));
        assert_eq!(deadline(find(&mut known, &header("echo", 2, 5000), 64).unwrap()), Duration::from_secs(5));
        assert_eq!(deadline(find(&mut known, &header("echo", 2, 5000), 64).unwrap()), Duration::from_secs(5));
        let long = [header("echo", 1, 1000), vec![0; HEADER_BYTES_MAX]].concat();
        assert!(find(&mut known, &long, 64).is_err(), "whatever follows");
        assert_eq!(deadline(find(&mut known, &first, 64).unwrap()), Duration::from_secs(1));
        assert!(find(&mut known, &first, 65).unwrap().is_none());
        assert!(find(&mut known, &header("hash", 1, 1000), 64).unwrap().is_none());
        assert!(find(&mut known, b"", 64).unwrap().is_none());
    }

    #[test]
    fn the_same_is_what_asks_for_the_same_on_the_same_terms_whenever_it_was_sent() {
        let mut known = Known::default();
        let first = header("echo", 1, 1000);
        assert!(known.same(&first, 64).is_none());
        note(&mut known, &first, Asked::UNKNOWN, 7);
        assert_eq!(known.same(&first, 64).unwrap().1.entry, 7);
        assert_eq!(known.same(&header("echo", u64::MAX, 1000), 64).unwrap().1.entry, 7);
        for (other, body_bytes) in [
            (header("echo", 1, 1001), 64),
            (header("hash", 1, 1000), 64),
            (first.clone(), 65),
            (first[..first.len() - 1].to_vec(), 64),
            ([&first[..], &[0]].concat(), 64),
        ] {
            assert!(known.same(&other, body_bytes).is_none(), "{other:?}");
        }
    }

    #[test]
    fn a_known_subject_does_not_excuse_what_follows_it() {
        let mut known = Known::default();
        let whole = header("echo", 1, 1000);
        note(&mut known, &whole, Asked::UNKNOWN, 7);
        assert!(find(&mut known, &whole[..whole.len() - 1], 64).is_err());
        assert!(find(&mut known, &[&whole[..], &[0]].concat(), 64).is_err());
    }

    #[test]
    fn what_is_too_long_is_not_kept_and_what_was_kept_stays_right() {
        let mut known = Known::default();
        note(&mut known, &header("echo", 1, 1000), Asked::UNKNOWN, 7);
        let long = [header("echo", 1, 1000), vec![0; HEADER_BYTES_MAX]].concat();
        let terms = &Terms { deadline: None, class: Class::Batch, body_total: None, must_understand: None };
        let (settings, task) = (&settings(), &task(8));
        let (subject_len, asked) = (long.len(), Asked::UNKNOWN);
        known.note(&long, Read { settings, subject_len, terms, body_bytes: 64, asked, task });
        assert_eq!(find(&mut known, &header("echo", 1, 1000), 64).unwrap().unwrap().0.1.unwrap().entry, 7);
    }

    #[test]
    fn the_next_turn_knows_it_under_the_same_settings_alone_and_asks_what_it_costs_by_now() {
        let first = header("echo", 1, 1000);
        let mut known = Known::default();
        note(&mut known, &first, Asked::UNKNOWN, 7);
        let kept = Arc::clone(&known.last.as_ref().unwrap().settings);
        known.keep();
        let mut next = Known::of_thread(&kept);
        let ((_, task), _) = next.find(&first, 64, |task| task.entry = 8).unwrap().unwrap();
        assert_eq!(task.unwrap().entry, 8);
        let ((_, task), _) = next.find(&first, 64, |_| panic!("once a turn")).unwrap().unwrap();
        assert_eq!(task.unwrap().entry, 8);
        next.keep();
        assert!(find(&mut Known::of_thread(&settings()), &first, 64).unwrap().is_none());
        assert!(find(&mut Known::of_thread(&kept), &first, 64).unwrap().is_none(), "it is forgotten");
    }
}
