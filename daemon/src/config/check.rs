//! From what was said to what is believed: every value in its range, all of them in accord, `auto` resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use windlass_actors::operation::{Catalogue, Declaration, Entry, OperationIndex};
use windlass_actors::settings::{
    DrainSettings, FairBy, LimitSettings, PoolSettings, QueueSettings, Settings, TimeoutSettings, UnixAddress,
};
use windlass_actors::units::format_size;

use super::kind::{Setting, quoted, toml_text};
use super::layers::{Layered, default_kind};
use super::problem::{Fault, Origin, Problem};
use super::schema::{Key, Schema};
use super::{Config, Effective, Io, Known, Listen, Log, LogFormat, Machine};

/// Reads and checks the winning values.
pub(super) struct Reading<'a> {
    schema: &'a Schema,
    machine: &'a Machine,
    values: BTreeMap<&'a str, Value>,
    problems: Vec<Problem>,
}

struct Value {
    setting: Setting,
    /// As TOML; `None` where the key is unset.
    found: Option<String>,
    origin: Origin,
    /// A value that could not be read was replaced by the default, so that the rest can be checked; what contradicts
    /// it is not worth a word.
    faulty: bool,
}

impl<'a> Reading<'a> {
    /// Reads every key by its type. `problems` are those of the layers.
    pub(super) fn new(
        schema: &'a Schema,
        machine: &'a Machine,
        merged: &BTreeMap<String, Layered>,
        problems: Vec<Problem>,
    ) -> Self {
        let mut reading = Self { schema, machine, values: BTreeMap::new(), problems };
        for key in &schema.keys {
            let value = reading.value(key, merged.get(&key.name));
            reading.values.insert(&key.name, value);
        }
        reading
    }

    fn value(&mut self, key: &Key, layered: Option<&Layered>) -> Value {
        let Some(Layered { value, origin }) = layered else {
            return Value { setting: Setting::Unset, found: None, origin: Origin::Default, faulty: false };
        };
        let found = Some(toml_text(value));
        match key.kind.read(value) {
            Ok(setting) => Value { setting, found, origin: origin.clone(), faulty: false },
            Err(fault) => {
                self.problems.push(Problem::new(&key.name, found.clone(), origin.clone(), fault));
                Value { setting: default_of(key), found, origin: origin.clone(), faulty: true }
            }
        }
    }

    /// What is believed, or every problem.
    pub(super) fn resolve(mut self, known: &Known<'_>) -> Result<Config, Vec<Problem>> {
        let listen = self.listen();
        let io = Io {
            threads: self.threads("io.threads", (self.machine.cores.get() / 4).max(1)),
            thread_stack_bytes: self.stack("io.thread_stack"),
        };
        let cpu = PoolSettings {
            threads: self.threads("cpu.threads", self.machine.cores.get()),
            thread_stack_bytes: self.stack("cpu.thread_stack"),
            nice: u8::try_from(self.number("cpu.nice")).expect("the range ends at 19"),
            work_bytes_max: self.size("cpu.memory"),
        };
        let catalogue = self.catalogue(known);
        let settings = Settings {
            catalogue,
            queue: self.queue(),
            limits: self.limits(),
            timeouts: self.timeouts(),
            drain: DrainSettings {
                quiet: self.duration("drain.quiet"),
                timeout: self.duration("drain.timeout"),
                cancel_grace: self.duration("drain.cancel_grace"),
            },
        };
        let log = Log {
            level: self.word("log.level").to_owned(),
            format: match self.word("log.format") {
                "pretty" => LogFormat::Pretty,
                "json" => LogFormat::Json,
                "journald" => LogFormat::Journald,
                _ => LogFormat::Auto,
            },
        };
        self.check_together();
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let effective = self.effective(&io, &cpu, &settings);
        Ok(Config { listen, io, cpu, settings, log, effective })
    }

    fn listen(&self) -> Listen {
        let mode = match self.setting("listen.unix_mode") {
            Setting::Mode(mode) => *mode,
            other => unreachable!("a mode was read as {other:?}"),
        };
        let id = |key: &str| match self.setting(key) {
            Setting::Id(id) => Some(*id),
            _ => None,
        };
        let (uid, gid) = (id("listen.unix_owner"), id("listen.unix_group"));
        let unix = match self.setting("listen.unix") {
            Setting::SocketPaths(paths) => paths.clone(),
            other => unreachable!("paths were read as {other:?}"),
        };
        Listen {
            tcp: self.addresses("listen.tcp"),
            unix: unix.into_iter().map(|path| UnixAddress { path, mode, uid, gid }).collect(),
            http: self.addresses("listen.http"),
            admin: self.admin(),
            allow_remote: self.allows_remote(),
        }
    }

    fn queue(&self) -> QueueSettings {
        let share = match self.setting("queue.batch_weight") {
            Setting::Share(parts) => NonZeroU32::new(*parts).expect("the range begins at 2"),
            other => unreachable!("a share was read as {other:?}"),
        };
        QueueSettings {
            capacity: self.count("queue.capacity"),
            memory_bytes_max: self.size("queue.memory"),
            wait_max: self.duration("queue.max_wait"),
            batch_share: share,
            fair_by: match self.word("queue.fair_by") {
                "address" => FairBy::Address,
                "uid" => FairBy::Uid,
                _ => FairBy::Connection,
            },
        }
    }

    fn limits(&self) -> LimitSettings {
        let in_flight = u32::try_from(self.number("limits.in_flight_per_connection"));
        LimitSettings {
            connections_max: match self.setting("limits.connections") {
                Setting::Number(number) => saturated(*number),
                _ => saturated(self.machine.connections_max()),
            },
            in_flight_per_connection: in_flight
                .ok()
                .and_then(NonZeroU32::new)
                .expect("the range begins at 1 and ends at 65536"),
            body_bytes_max: self.size("limits.body"),
            unwritten_bytes_max: self.size("limits.unwritten_per_connection"),
        }
    }

    fn timeouts(&self) -> TimeoutSettings {
        TimeoutSettings {
            handshake: self.duration("timeouts.handshake"),
            idle: self.duration("timeouts.idle"),
            read: self.duration("timeouts.read"),
            write: self.duration("timeouts.write"),
            deadline_default: self.duration("timeouts.deadline_default"),
            deadline_max: self.duration("timeouts.deadline_max"),
        }
    }

    /// The enabled operations, with what the operator says of them. A disabled one is checked all the same.
    fn catalogue(&mut self, known: &Known<'_>) -> Catalogue {
        let enabled = match self.setting("operations.enabled") {
            Setting::Names(names) => names.clone(),
            other => unreachable!("names were read as {other:?}"),
        };
        let mut entries = Vec::new();
        for (place, declaration) in known.declared.iter().enumerate() {
            let name = declaration.name;
            let concurrency = format!("operations.{name}.max_concurrency");
            let concurrency_max = match self.setting(&concurrency) {
                Setting::Number(number) => NonZeroUsize::new(saturated(*number)),
                _ => None,
            };
            let declaration = self.configured(declaration.clone());
            if enabled.contains(&name) {
                let index = OperationIndex(u16::try_from(place).expect("no program knows 65536 operations"));
                entries.push(Entry { index, operation: (known.build)(declaration), concurrency_max });
            }
        }
        Catalogue::new(entries).unwrap_or_else(|error| {
            let fault = Fault::new(error.to_string());
            self.problems.push(Problem::new("operations", None, Origin::Nowhere, fault));
            Catalogue::default()
        })
    }

    fn configured(&mut self, mut declaration: Declaration) -> Declaration {
        let section = format!("operations.{}", declaration.name);
        let mut faults = Vec::new();
        for key in self.schema.keys.iter().filter(|key| key.parts().0 == section) {
            let value = &self.values[key.name.as_str()];
            let Setting::Word(text) = &value.setting else { continue };
            if value.origin != Origin::Default
                && !value.faulty
                && let Err(error) = declaration.set(key.parts().1, text)
            {
                let fault = Fault::new(error.to_string());
                faults.push(Problem::new(&key.name, value.found.clone(), value.origin.clone(), fault));
            }
        }
        // Read without a fault, and yet together they may leave a default outside its range.
        if faults.is_empty()
            && let Err(error) = declaration.check()
        {
            let fault = Fault::new(error.to_string()).hint("set the default of the parameter, too");
            faults.push(Problem::new(section, None, Origin::Nowhere, fault));
        }
        self.problems.extend(faults);
        declaration
    }

    fn check_together(&mut self) {
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

    /// What every key came to, numbers in place of `auto`.
    fn effective(&self, io: &Io, cpu: &PoolSettings, settings: &Settings) -> Vec<Effective> {
        let resolved = |name: &str| match name {
            "io.threads" => io.threads.get(),
            "cpu.threads" => cpu.threads.get(),
            "limits.connections" => settings.limits.connections_max,
            other => unreachable!("{other} has no automatic value"),
        };
        let effective = |key: &Key| {
            let value = &self.values[key.name.as_str()];
            let resolved = matches!(value.setting, Setting::Auto).then(|| resolved(&key.name) as u64);
            let setting = resolved.map_or_else(|| value.setting.clone(), Setting::Number);
            let (found, origin) = (value.found.clone(), value.origin.clone());
            Effective { name: key.name.clone(), applies: key.applies, found, setting, resolved, origin }
        };
        self.schema.keys.iter().map(effective).collect()
    }

    fn complain(&mut self, key: &str, fault: Fault) {
        let value = &self.values[key];
        let problem = Problem::new(key, value.found.clone(), value.origin.clone(), fault);
        self.problems.push(problem);
    }

    /// Whether the values of these keys are those that somebody wanted.
    fn sound(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.values[*key].faulty)
    }

    fn setting(&self, key: &str) -> &Setting {
        &self.values[key].setting
    }

    fn found(&self, key: &str) -> &str {
        self.values[key].found.as_deref().unwrap_or("unset")
    }

    fn allows_remote(&self) -> bool {
        matches!(self.setting("listen.allow_remote"), Setting::Switch(true))
    }

    fn admin(&self) -> Option<SocketAddr> {
        match self.setting("listen.admin") {
            Setting::Address(address) => *address,
            other => unreachable!("an address was read as {other:?}"),
        }
    }

    fn addresses(&self, key: &str) -> Vec<SocketAddr> {
        match self.setting(key) {
            Setting::Addresses(addresses) => addresses.clone(),
            other => unreachable!("{key} was read as {other:?}"),
        }
    }

    /// The IP addresses of a key that has one or many.
    fn doors(&self, key: &str) -> Vec<SocketAddr> {
        match self.setting(key) {
            Setting::Address(address) => address.iter().copied().collect(),
            _ => self.addresses(key),
        }
    }

    fn number(&self, key: &str) -> u64 {
        match self.setting(key) {
            Setting::Number(number) => *number,
            other => unreachable!("{key} was read as {other:?}"),
        }
    }

    fn count(&self, key: &str) -> NonZeroUsize {
        NonZeroUsize::new(saturated(self.number(key))).expect("the range begins at 1")
    }

    fn threads(&self, key: &str, automatic: usize) -> NonZeroUsize {
        match self.setting(key) {
            Setting::Auto => NonZeroUsize::new(automatic).expect("a machine has a core"),
            _ => self.count(key),
        }
    }

    fn size(&self, key: &str) -> u64 {
        match self.setting(key) {
            Setting::Size(bytes) => *bytes,
            other => unreachable!("{key} was read as {other:?}"),
        }
    }

    fn stack(&self, key: &str) -> usize {
        saturated(self.size(key))
    }

    fn duration(&self, key: &str) -> Duration {
        match self.setting(key) {
            Setting::Duration(duration) => *duration,
            other => unreachable!("{key} was read as {other:?}"),
        }
    }

    fn word(&self, key: &str) -> &str {
        match self.setting(key) {
            Setting::Word(word) => word,
            other => unreachable!("{key} was read as {other:?}"),
        }
    }
}

fn default_of(key: &Key) -> Setting {
    key.default.as_ref().map_or(Setting::Unset, |default| {
        key.kind.read(&default_kind(default)).expect("defaults of the schema lie in their ranges")
    })
}

fn saturated(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
