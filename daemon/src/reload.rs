//! SIGHUP: validate, build, swap. A configuration with a problem changes nothing and says so.

use windlass_actors::{Recruiter, Reload};

use crate::catalogue;
use crate::config::{Config, Machine, Sources};
use crate::log::LogHandle;

/// Reads the same places again that the daemon was started with.
pub(crate) struct Reloader {
    sources: Sources,
    /// What the process was started with: whatever differs from it and needs a restart is said at every reload.
    started: Config,
    /// What was taken last.
    current: Config,
    log: LogHandle,
    recruiter: Recruiter,
}

impl Reloader {
    pub(crate) fn new(sources: Sources, started: Config, log: LogHandle, recruiter: Recruiter) -> Self {
        Self { sources, current: started.clone(), started, log, recruiter }
    }

    /// What to take from now on, or `None` when all stays as it is. Waits for threads to be started.
    pub(crate) fn reload(&mut self) -> Option<Reload> {
        // Looked at again: a quota or an affinity may have changed, which "auto" follows.
        let new = match catalogue::load(&self.sources, &Machine::here()) {
            Ok(new) => new,
            Err(problems) => {
                tracing::error!(%problems, "reload refused; the old configuration stays in force");
                return None;
            }
        };
        // Built before anything is changed, so that what cannot be had leaves everything as it was.
        let wanted = (new.cpu != self.current.cpu).then(|| self.recruiter.recruit(&new.cpu)).transpose();
        let pool = match wanted {
            Ok(pool) => pool,
            Err(error) => {
                tracing::error!(%error, "reload refused; the old configuration stays in force");
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
        Some(Reload { settings, pool })
    }
}
