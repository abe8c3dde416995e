//! The operations of one settings snapshot.

use std::num::NonZeroUsize;
use std::sync::Arc;

use thiserror::Error;

use super::{Operation, Secrecy};

/// An operation's place in its [`Catalogue`], and in every table of counters. Places are given by name over all
/// operations that the program knows, so that they survive a reload that enables or disables some.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct OperationIndex(pub u16);

/// An enabled operation with what the operator says of it.
#[derive(Clone)]
pub struct Entry {
    /// The place of the operation in every table.
    pub index: OperationIndex,
    /// What runs.
    pub operation: Arc<dyn Operation>,
    /// Most jobs of it that run at the same time; `None` leaves it to the number of workers.
    pub concurrency_max: Option<NonZeroUsize>,
    /// Whether identical requests in flight run once. Never for secrets, whatever this says.
    pub coalescing: Coalescing,
}

/// Whether identical requests in flight run once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coalescing {
    /// Each runs by itself.
    #[default]
    Off,
    /// One runs, and all are answered with its result.
    On,
}

/// The enabled operations, found by name.
#[derive(Clone, Default)]
pub struct Catalogue {
    /// Sorted by name.
    entries: Vec<Entry>,
    /// Their names, which every request is looked up in.
    names: Vec<&'static str>,
}

/// A set of operations that cannot be a catalogue.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("two operations are called '{0}'")]
pub struct CatalogueError(pub &'static str);

impl Catalogue {
    /// Makes the catalogue.
    ///
    /// # Errors
    ///
    /// When two operations have one name.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, CatalogueError> {
        entries.sort_by_key(|entry| entry.operation.declaration().name);
        match entries.windows(2).find(|pair| pair[0].name() == pair[1].name()) {
            Some(pair) => Err(CatalogueError(pair[0].name())),
            None => Ok(Self { names: entries.iter().map(Entry::name).collect(), entries }),
        }
    }

    /// The enabled operation of this name, and its place in [`Catalogue::entries`].
    pub fn find(&self, name: &str) -> Option<(&Entry, usize)> {
        // They are few, and mostly differ in their length already: quicker than halving, which compares bytes each time.
        let place = self.names.iter().position(|known| *known == name)?;
        Some((&self.entries[place], place))
    }

    /// All of them, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

impl Entry {
    /// Whether requests for it that are identical may share one run.
    pub(crate) fn coalesces(&self) -> bool {
        self.coalescing == Coalescing::On && self.operation.declaration().secrecy == Secrecy::Open
    }

    /// The operation's name.
    pub fn name(&self) -> &'static str {
        self.operation.declaration().name
    }
}
