//! How a request ends, as a label.

use windlass_protocol::FailureCode;

/// How a request that was read ended. Every one ends in exactly one of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// With a result.
    Done,
    /// With a failure; the place of its code in [`FailureCode::ALL`].
    Failed(u8),
    /// Its connection broke before it had an answer.
    Unanswered,
}

/// The labels, by [`Outcome::place`].
const LABELS: [&str; 15] = [
    "done",
    "protocol_error",
    "unsupported_version",
    "unauthorized",
    "unknown_operation",
    "invalid_parameter",
    "invalid_input",
    "too_large",
    "unsupported",
    "overloaded",
    "draining",
    "deadline_exceeded",
    "cancelled",
    "internal",
    "unanswered",
];

/// The code that stands for those that this version does not name; nothing in this daemon answers with one.
const INTERNAL: u8 = 12;

impl Outcome {
    /// The labels of all outcomes.
    pub(crate) const ALL: [&str; 15] = LABELS;

    /// The outcome of a failure with this code.
    pub(crate) fn of(code: FailureCode) -> Self {
        let place = FailureCode::ALL.iter().position(|known| *known == code);
        Self::Failed(place.and_then(|place| u8::try_from(place).ok()).unwrap_or(INTERNAL))
    }

    pub(crate) fn place(self) -> usize {
        match self {
            Self::Done => 0,
            Self::Failed(code) => usize::from(code) + 1,
            Self::Unanswered => LABELS.len() - 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_names_of_the_codes_in_small_letters() {
        for code in FailureCode::ALL {
            let label = LABELS[Outcome::of(code).place()];
            let name = code.name().to_lowercase();
            assert_eq!(label.replace('_', ""), name);
        }
        assert_eq!(
            (LABELS[Outcome::Done.place()], LABELS[Outcome::Unanswered.place()]),
            ("done", "unanswered")
        );
        assert_eq!(FailureCode::ALL[usize::from(INTERNAL)], FailureCode::INTERNAL);
    }
}
