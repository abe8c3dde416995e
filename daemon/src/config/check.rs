//! From what was said to what is believed: every value in its range, all of them in accord, `auto` resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use windlass_actors::operation::{Catalogue, Coalescing, Declaration, Entry, OperationIndex};
use windlass_actors::settings::{
    DrainSettings, FairBy, LimitSettings, PoolSettings, QueueSettings, Settings, TimeoutSettings, UnixAddress,
};

use super::kind::{Setting, toml_text};
use super::layers::{Layered, default_kind};
use super::problem::{Fault, Origin, Problem};
use super::schema::{Key, Schema};
use super::{Config, Effective, Io, Known, Listen, Log, LogFormat, Machine};

/// Reads and checks the winning values.
pub(super) struct Reading<'a> {
    schema: &'a Schema,
    pub(super) machine: &'a Machine,
    values: BTreeMap<&'a str, Value>,
    pub(super) problems: Vec<Problem>,
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
        self.check_accord();
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let effective = self.effective(&io, &cpu, &settings);
        Ok(Config { listen, io, cpu, settings, log, effective })
    }

    pub(super) fn listen(&self) -> Listen {
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
            http_hosts: match self.setting("listen.http_hosts") {
                Setting::Hosts(hosts) => hosts.clone(),
                other => unreachable!("hosts were read as {other:?}"),
            },
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
            let coalescing = match self
                .values
                .get(format!("operations.{name}.coalesce").as_str())
                .map(|value| &value.setting)
            {
                Some(Setting::Switch(true)) => Coalescing::On,
                _ => Coalescing::Off,
            };
            let declaration = self.configured(declaration.clone());
            if enabled.contains(&name) {
                let index = OperationIndex(u16::try_from(place).expect("no program knows 65536 operations"));
                entries.push(Entry {
                    index,
                    operation: (known.build)(declaration),
                    concurrency_max,
                    coalescing,
                });
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

    pub(super) fn complain(&mut self, key: &str, fault: Fault) {
        let value = &self.values[key];
        let problem = Problem::new(key, value.found.clone(), value.origin.clone(), fault);
        self.problems.push(problem);
    }

    /// Whether the values of these keys are those that somebody wanted.
    pub(super) fn sound(&self, keys: &[&str]) -> bool {
        keys.iter().all(|key| !self.values[*key].faulty)
    }

    pub(super) fn setting(&self, key: &str) -> &Setting {
        &self.values[key].setting
    }

    pub(super) fn found(&self, key: &str) -> &str {
        self.values[key].found.as_deref().unwrap_or("unset")
    }

    pub(super) fn allows_remote(&self) -> bool {
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
    pub(super) fn doors(&self, key: &str) -> Vec<SocketAddr> {
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

    pub(super) fn size(&self, key: &str) -> u64 {
        match self.setting(key) {
            Setting::Size(bytes) => *bytes,
            other => unreachable!("{key} was read as {other:?}"),
        }
    }

    fn stack(&self, key: &str) -> usize {
        saturated(self.size(key))
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
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
