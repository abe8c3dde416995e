//! Whether the values, each right by itself, are right together and on this machine.

use std::net::SocketAddr;

use windlass_actors::units::format_size;

use super::check::Reading;
use super::kind::{Setting, quoted};
use super::problem::{Fault, Origin, Problem};

impl Reading<'_> {
    /// Complains of all that contradicts something else.
    pub(super) fn check_accord(&mut self) {
        self.check_reachable();
        self.check_remote();
        self.check_doubled();
        self.check_descriptors();
        if self.sound(&["queue.memory", "limits.body"]) {
            let (memory, body) = (self.size("queue.memory"), self.size("limits.body"));
            if memory < body.saturating_mul(2) {
                let reason = format!(
                    "half of it, which bodies that are arriving may take, does not hold one of limits.body = {}",
                    quoted(&format_size(body))
                );
                self.complain(
                    "queue.memory",
                    Fault::new(reason).hint("raise it to twice limits.body, or lower limits.body"),
                );
            }
        }
        if self.sound(&["timeouts.deadline_default", "timeouts.deadline_max"])
            && self.duration("timeouts.deadline_default") > self.duration("timeouts.deadline_max")
        {
            let reason =
                format!("is longer than timeouts.deadline_max = {}", self.found("timeouts.deadline_max"));
            self.complain(
                "timeouts.deadline_default",
                Fault::new(reason).hint("lower it, or raise timeouts.deadline_max"),
            );
        }
    }

    fn check_reachable(&mut self) {
        let listen = self.listen();
        let nowhere = listen.tcp.is_empty() && listen.unix.is_empty() && listen.http.is_empty();
        if nowhere && self.sound(&["listen.tcp", "listen.unix", "listen.http"]) {
            let fault = Fault::new("no address is left on which work could arrive")
                .hint("give listen.tcp, listen.unix or listen.http an address");
            self.problems.push(Problem::new("listen", None, Origin::Nowhere, fault));
        }
    }

    fn check_remote(&mut self) {
        if self.allows_remote() || !self.sound(&["listen.allow_remote"]) {
            return;
        }
        for key in ["listen.tcp", "listen.http", "listen.admin"] {
            let far: Vec<_> = self
                .doors(key)
                .into_iter()
                .filter(|address| !address.ip().to_canonical().is_loopback())
                .map(|address| address.to_string())
                .collect();
            if !far.is_empty() {
                let reason = format!(
                    "{} can be reached from other machines, and nobody is asked who they are",
                    far.join(", ")
                );
                let hint =
                    "listen on 127.0.0.1 or [::1], or set listen.allow_remote = true behind a firewall";
                self.complain(key, Fault::new(reason).hint(hint));
            }
        }
    }

    fn check_doubled(&mut self) {
        let mut seen: Vec<(String, &str)> = Vec::new();
        let mut doubled = Vec::new();
        for key in ["listen.tcp", "listen.http", "listen.admin", "listen.unix"] {
            let places = match self.setting(key) {
                Setting::SocketPaths(paths) => paths.iter().map(|path| path.display().to_string()).collect(),
                // Port 0 is another one each time.
                _ => self
                    .doors(key)
                    .iter()
                    .filter(|door| door.port() != 0)
                    .map(SocketAddr::to_string)
                    .collect::<Vec<_>>(),
            };
            for place in places {
                match seen.iter().find(|(other, _)| *other == place) {
                    Some((_, first)) if *first == key => {
                        doubled.push((key, format!("{place} is listed twice")))
                    }
                    Some((_, first)) => doubled.push((key, format!("{place} is taken by {first} already"))),
                    None => seen.push((place, key)),
                }
            }
        }
        for (key, reason) in doubled {
            self.complain(key, Fault::new(reason).hint("one address, one listener"));
        }
    }

    fn check_descriptors(&mut self) {
        let allowed = self.machine.connections_max();
        let Setting::Number(wanted) = *self.setting("limits.connections") else { return };
        if wanted > allowed && self.sound(&["limits.connections"]) {
            let reason = format!(
                "is more than the {allowed} that {} descriptors allow, {} of them kept back",
                self.machine.descriptors,
                self.machine.descriptors_kept()
            );
            self.complain(
                "limits.connections",
                Fault::new(reason).hint("raise LimitNOFILE= of the unit (ulimit -Hn), or write \"auto\""),
            );
        }
    }
}
