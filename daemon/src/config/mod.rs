//! What is believed: values that were checked, resolved and found in accord.
//!
//! Built-in defaults < file < environment < command line. One table of keys (`schema`) says what may be written;
//! every problem of all layers is told at once.

mod accord;
mod check;
mod file;
mod kind;
mod layers;
mod print;
mod problem;
mod schema;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use windlass_actors::operation::{Declaration, Operation};
use windlass_actors::settings::{PoolSettings, Settings, UnixAddress};

use check::Reading;
use kind::Setting;
use schema::{Applies, Schema};

pub use layers::Sources;
pub use print::shipped;
pub use problem::{ConfigError, Origin, Problem};

/// All that windlassd is told.
#[derive(Clone)]
pub struct Config {
    /// Where to listen; at restart.
    pub listen: Listen,
    /// The I/O world; at restart.
    pub io: Io,
    /// The CPU world; at reload.
    pub cpu: PoolSettings,
    /// What the actors are told; at reload.
    pub settings: Settings,
    /// What is written down; the level at reload, the format at restart.
    pub log: Log,
    effective: Vec<Effective>,
}

/// Where to listen. At least one of the first three has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The native protocol over TCP.
    pub tcp: Vec<SocketAddr>,
    /// The native protocol over Unix sockets.
    pub unix: Vec<UnixAddress>,
    /// HTTP.
    pub http: Vec<SocketAddr>,
    /// Names under which HTTP is reached, besides the loopback ones.
    pub http_hosts: Vec<String>,
    /// Health, metrics and status; `None` when switched off.
    pub admin: Option<SocketAddr>,
    /// Whether the addresses may be other than loopback; checked already.
    pub allow_remote: bool,
}

/// The I/O world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Io {
    /// Threads.
    pub threads: NonZeroUsize,
    /// Stack of each, bytes.
    pub thread_stack_bytes: usize,
}

/// What is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives by target; valid for [`crate::log::LogHandle::set_level`].
    pub level: String,
    /// How it looks.
    pub format: LogFormat,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Journald where standard error leads to the journal, otherwise pretty.
    Auto,
    /// A line of text for each event, in colours on a terminal.
    Pretty,
    /// A JSON object for each event, one per line.
    Json,
    /// Fields for the journal.
    Journald,
}

/// What "auto" depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that this process may use: affinity and cgroup quota counted, rounded down.
    pub cores: NonZeroUsize,
    /// Descriptors that this process may have open, once the soft limit is raised to the hard one.
    pub descriptors: u64,
}

/// Kept back of the descriptors for listeners, the admin door, logs, and refusals beyond the limit.
const DESCRIPTORS_KEPT: u64 = 128;

/// What an unlimited process can have all the same: the kernel's default of `fs.nr_open`.
const DESCRIPTORS_UNLIMITED: u64 = 1 << 20;

impl Machine {
    /// This machine, as far as this process may use it.
    pub fn here() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            cores: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            descriptors: limit.maximum.unwrap_or(DESCRIPTORS_UNLIMITED),
        }
    }

    /// Most connections that leave enough descriptors for all else.
    fn connections_max(&self) -> u64 {
        self.descriptors.saturating_sub(DESCRIPTORS_KEPT).max(self.descriptors / 2).max(1)
    }

    fn descriptors_kept(&self) -> u64 {
        self.descriptors.saturating_sub(self.connections_max())
    }
}

/// The operations that the program knows, enabled or not.
pub struct Known<'a> {
    /// In name order; the place of each is its [`windlass_actors::operation::OperationIndex`].
    pub declared: Vec<Declaration>,
    /// Makes one from its declaration, as the operator changed it.
    pub build: &'a dyn Fn(Declaration) -> Arc<dyn Operation>,
}

/// What a key came to.
#[derive(Clone, Debug)]
struct Effective {
    name: String,
    applies: Applies,
    /// As it was written.
    found: Option<String>,
    /// Read, and numbers in place of `auto`.
    setting: Setting,
    /// The number in place of `auto`.
    resolved: Option<u64>,
    origin: Origin,
}

/// Every key with its default as TOML; `None` where it is unset unless somebody sets it.
pub fn keys(known: &Known<'_>) -> Vec<(String, Option<String>)> {
    Schema::new(&known.declared).keys.into_iter().map(|key| (key.name, key.default)).collect()
}

impl Config {
    /// Reads all layers and checks them.
    ///
    /// # Errors
    ///
    /// Every problem there is.
    pub fn load(sources: &Sources, known: &Known<'_>, machine: &Machine) -> Result<Self, ConfigError> {
        let schema = Schema::new(&known.declared);
        let mut problems = Vec::new();
        let merged = layers::merge(&schema, sources, &mut problems);
        Reading::new(&schema, machine, &merged, problems)
            .resolve(known)
            .map_err(|problems| ConfigError { problems })
    }

    /// The keys whose value changed and that are only taken at a restart, for the log of a reload.
    pub fn restart_needed(&self, new: &Self) -> Vec<String> {
        self.changed(new, Applies::AtRestart)
    }

    /// The keys whose value changed and that a reload takes, for its log.
    pub fn reloaded(&self, new: &Self) -> Vec<String> {
        self.changed(new, Applies::AtReload)
    }

    /// By what the values mean, not how they are written: `60s` is `1m`.
    fn changed(&self, new: &Self, applies: Applies) -> Vec<String> {
        let pairs = self.effective.iter().zip(&new.effective);
        pairs
            .filter(|(old, new)| old.applies == applies && old.setting != new.setting)
            .map(|(old, _)| old.name.clone())
            .collect()
    }

    /// The numbers that "auto" came to, for the log at start: key and value.
    pub fn resolved(&self) -> Vec<(&str, u64)> {
        self.effective.iter().filter_map(|key| Some((key.name.as_str(), key.resolved?))).collect()
    }
}
