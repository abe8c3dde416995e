//! SIGHUP: validate, build, swap. A configuration with a problem changes nothing and says so.

use windlass_actors::settings::Settings;

use crate::catalogue;
use crate::config::{Config, Machine, Sources};
use crate::log::LogHandle;

/// Reads the same places again that the daemon was started with.
pub(crate) struct Reloader {
    sources: Sources,
    machine: Machine,
    /// What the process was started with: whatever differs from it and needs a restart is said at every reload.
    started: Config,
    /// What was taken last.
    current: Config,
    log: LogHandle,
}

impl Reloader {
    pub(crate) fn new(sources: Sources, machine: Machine, started: Config, log: LogHandle) -> Self {
        Self { sources, machine, current: started.clone(), started, log }
    }

    /// The settings to take from now on, or `None` when the old ones stay.
    pub(crate) fn reload(&mut self) -> Option<Settings> {
        let new = match catalogue::load(&self.sources, &self.machine) {
            Ok(new) => new,
            Err(problems) => {
                tracing::error!(%problems, "reload refused; the old configuration stays in force");
                return None;
            }
        };
        if let Err(error) = self.log.set_level(&new.log.level) {
            tracing::error!(%error, "reload refused; the old configuration stays in force");
            return None;
        }
        for key in self.started.restart_needed(&new) {
            tracing::warn!(key, "changed, but needs a restart");
        }
        tracing::info!(changed = ?self.current.reloaded(&new), "configuration reloaded");
        let settings = new.settings.clone();
        self.current = new;
        Some(settings)
    }
}
