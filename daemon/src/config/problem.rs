//! What is wrong with a configuration, told all at once.

use std::fmt;

/// Every problem of a configuration, in the order of its layers: file, environment, command line, then the values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one.
    pub problems: Vec<Problem>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key as in the file (`section.key`), the environment variable, or the file.
    pub key: String,
    /// The value, as TOML; `None` where there is none to show.
    pub found: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
    /// Why it cannot be taken.
    pub reason: String,
    /// What to do instead.
    pub hint: Option<String>,
}

/// The layer that a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A file, with the line counted from 1.
    File {
        /// The file as it was named.
        path: String,
        /// Where the value stands.
        line: usize,
    },
    /// An environment variable.
    Variable(String),
    /// `--set` on the command line.
    Flag,
    /// No single place: values contradict each other, or a file cannot be read.
    Nowhere,
}

/// What is wrong with a value, without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: String,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, found: Option<String>, origin: Origin, fault: Fault) -> Self {
        Self { key: key.into(), found, origin, reason: fault.reason, hint: fault.hint }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(formatter, "built-in default"),
            Self::File { path, line } => write!(formatter, "file {path}, line {line}"),
            Self::Variable(name) => write!(formatter, "environment variable {name}"),
            Self::Flag => write!(formatter, "--set"),
            Self::Nowhere => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.key)?;
        if let Some(found) = &self.found {
            write!(formatter, " = {found}")?;
        }
        if self.origin != Origin::Nowhere {
            write!(formatter, " ({})", self.origin)?;
        }
        write!(formatter, ": {}", self.reason)?;
        self.hint.iter().try_for_each(|hint| write!(formatter, "\n    hint: {hint}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        write!(formatter, "{count} problem{} in the configuration", if count == 1 { "" } else { "s" })?;
        self.problems.iter().try_for_each(|problem| write!(formatter, "\n  {problem}"))
    }
}

/// The one of `known` that was probably meant, if any is near enough: at most a third of its letters differ.
pub(super) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (distance(found, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3).min(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Letters to insert, remove or replace to come from one to the other (Levenshtein), letter case aside.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    // A stranger's key may be long; what is longer than this is near to nothing.
    for (from_index, from_letter) in from.to_lowercase().chars().take(128).enumerate() {
        let mut diagonal = row[0];
        row[0] = from_index + 1;
        for (to_index, to_letter) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(from_letter != *to_letter);
            diagonal = row[to_index + 1];
            row[to_index + 1] = replaced.min(row[to_index] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_the_key_that_was_meant() {
        let known = ["cpu.threads", "cpu.thread_stack", "io.threads", "cpu.nice"];
        assert_eq!(nearest("cpu.thread", known), Some("cpu.threads"));
        assert_eq!(nearest("cpu.thread-stack", known), Some("cpu.thread_stack"));
        assert_eq!(nearest("cpu.Nice", known), Some("cpu.nice"));
        assert_eq!(nearest("queue.capacity", known), None);
        assert_eq!(nearest("", known), None);
    }

    #[test]
    fn a_problem_says_key_value_place_reason_and_hint() {
        let origin = Origin::File { path: "/etc/w.toml".into(), line: 7 };
        let fault = Fault::new("0 is outside 1 to 1024").hint("write \"auto\"");
        let problem = Problem::new("cpu.threads", Some("0".into()), origin, fault);
        let error = ConfigError { problems: vec![problem] };
        assert_eq!(
            error.to_string(),
            "1 problem in the configuration\n  cpu.threads = 0 (file /etc/w.toml, line 7): 0 is outside 1 to \
             1024\n    hint: write \"auto\""
        );
    }
}
