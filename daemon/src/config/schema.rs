//! The one table of keys. Defaults, validation, `--print-config`, the reference file and the tests of
//! `deploy/windlass.toml` come from it; a key stands nowhere else but where its value is used.

use std::time::Duration;

use windlass_actors::operation::{Declaration, ParameterKind, Secrecy};

use super::kind::{Kind, quoted};

/// All keys, in the order in which they are shown; those of one section stand together.
pub(super) struct Schema {
    pub(super) keys: Vec<Key>,
}

/// One key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// `section.key`, as in the file.
    pub(super) name: String,
    /// Type and range.
    pub(super) kind: Kind,
    /// As TOML; `None` leaves the key unset.
    pub(super) default: Option<String>,
    /// When a change is taken.
    pub(super) applies: Applies,
    /// What it does and why the default is what it is; sentences.
    pub(super) about: String,
}

/// When a changed value is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applies {
    /// By `systemctl reload windlass`, or SIGHUP.
    AtReload,
    /// At the next start.
    AtRestart,
}

/// The sections, in the order in which they are shown, and what stands in them.
pub(super) const SECTIONS: [(&str, &str); 9] = [
    (
        "listen",
        "Where windlassd is reached. Sockets that systemd hands over (windlass.socket and the like) replace the \
         addresses of their kind.",
    ),
    ("io", "The I/O world: threads that read, write and wait, and never compute."),
    ("cpu", "The CPU world: threads that compute, and never wait."),
    ("queue", "What waits for a worker."),
    ("limits", "What one connection, or all together, may ask."),
    ("timeouts", "How long anybody is waited for."),
    (
        "drain",
        "How the end goes: SIGTERM, or systemctl stop. systemd is asked for the time that this takes, so TimeoutStopSec= \
         of the unit may be shorter.",
    ),
    ("log", "What is written down."),
    ("operations", "What may be asked for."),
];

/// Names under which people look for a key, and where it stands here.
pub(super) const ELSEWHERE: [(&str, &str); 16] = [
    ("listen.native", "listen.tcp"),
    ("listen.address", "listen.tcp"),
    ("listen.user", "listen.unix_owner"),
    ("listen.group", "listen.unix_group"),
    ("listen.mode", "listen.unix_mode"),
    ("io.workers", "io.threads"),
    ("cpu.workers", "cpu.threads"),
    ("cpu.niceness", "cpu.nice"),
    ("queue.size", "queue.capacity"),
    ("limits.max_connections", "limits.connections"),
    ("limits.in_flight", "limits.in_flight_per_connection"),
    ("limits.max_body", "limits.body"),
    ("timeouts.deadline", "timeouts.deadline_default"),
    ("drain.grace", "drain.cancel_grace"),
    ("log.filter", "log.level"),
    ("operations.disabled", "operations.enabled"),
];

/// Threads of one kind; more only cost memory.
const THREADS_MAX: i64 = 1024;
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Schema {
    /// The keys of the daemon, and those that these operations declare.
    pub(super) fn new(declared: &[Declaration]) -> Self {
        let mut keys = general();
        let names: Vec<_> = declared.iter().map(|declaration| declaration.name).collect();
        let all = names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        keys.push(Key {
            name: "operations.enabled".to_owned(),
            kind: Kind::Names(names),
            default: Some(format!("[{all}]")),
            applies: Applies::AtReload,
            about: "The operations that are offered. The built-in default is all of them.".to_owned(),
        });
        keys.extend(declared.iter().flat_map(of_operation));
        Self { keys }
    }

    pub(super) fn find(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Whether keys stand under this name.
    pub(super) fn is_section(&self, name: &str) -> bool {
        self.keys.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }
}

impl Key {
    /// The section, and the key within it.
    pub(super) fn parts(&self) -> (&str, &str) {
        self.name.rsplit_once('.').expect("every key stands in a section")
    }

    /// The environment variable that sets the key.
    pub(super) fn variable(&self) -> String {
        format!("WINDLASS__{}", self.name.to_uppercase().replace('.', "__").replace('-', "_"))
    }
}

fn general() -> Vec<Key> {
    use Applies::{AtReload, AtRestart};
    let key = |name: &str, kind: Kind, default: &str, applies: Applies, about: &str| Key {
        name: name.to_owned(),
        kind,
        default: (!default.is_empty()).then(|| default.to_owned()),
        applies,
        about: about.to_owned(),
    };
    let duration = |min: Duration, max: Duration| Kind::Duration { min, max };
    let millisecond = Duration::from_millis(1);
    vec![
        key(
            "listen.tcp",
            Kind::Addresses,
            r#"["127.0.0.1:7410"]"#,
            AtRestart,
            "The native protocol over TCP. Loopback, because nobody is asked who they are.",
        ),
        key(
            "listen.unix",
            Kind::SocketPaths,
            "[]",
            AtRestart,
            "The native protocol over Unix sockets. None, because only the unit knows a directory that windlassd \
             may write to: /run/windlass, by its RuntimeDirectory=.",
        ),
        key(
            "listen.unix_mode",
            Kind::Mode,
            r#""0660""#,
            AtRestart,
            "Rights of the Unix sockets, from the first moment they exist. Owner and group may connect.",
        ),
        key(
            "listen.unix_owner",
            Kind::User,
            "",
            AtRestart,
            "Owner of the Unix sockets. Unset: the user that windlassd runs as. Another one needs CAP_CHOWN.",
        ),
        key(
            "listen.unix_group",
            Kind::Group,
            "",
            AtRestart,
            "Group of the Unix sockets. Unset: the group that windlassd runs as. Another one that windlassd is not in needs CAP_CHOWN.",
        ),
        key(
            "listen.http",
            Kind::Addresses,
            r#"["127.0.0.1:7411"]"#,
            AtRestart,
            "Plain HTTP, for curl and for everything without a client library.",
        ),
        key(
            "listen.http_hosts",
            Kind::Hosts,
            "[]",
            AtRestart,
            "Names under which HTTP and the admin door are reached, without ports. Loopback names and the address \
             of the connection itself are always served; any other Host is refused, so that a web page cannot \
             pass itself off as a name of ours.",
        ),
        key(
            "listen.admin",
            Kind::Address,
            r#""127.0.0.1:7412""#,
            AtRestart,
            "Health, readiness, metrics and status; answers when all else is full.",
        ),
        key(
            "listen.allow_remote",
            Kind::Switch,
            "false",
            AtRestart,
            "Allows addresses other than loopback above. There is no authentication yet: whoever reaches the port \
             may use every operation. The unit's IPAddressAllow= needs the same.",
        ),
        key(
            "io.threads",
            Kind::NumberOrAuto { min: 1, max: THREADS_MAX },
            r#""auto""#,
            AtRestart,
            "I/O threads. \"auto\" is a quarter of the cores and at least 1: moving bytes is little work beside \
             computing with them.",
        ),
        key(
            "io.thread_stack",
            Kind::Size { min: 128 * KIB, max: GIB },
            r#""2MiB""#,
            AtRestart,
            "Stack of each I/O thread. Tokio's own default; only touched pages cost memory.",
        ),
        key(
            "cpu.threads",
            Kind::NumberOrAuto { min: 1, max: THREADS_MAX },
            r#""auto""#,
            AtReload,
            "Worker threads. \"auto\" is one per core (affinity and cgroup quota counted): more only make the caches colder. \
             Another number is taken by new threads; those before them finish what they run.",
        ),
        key(
            "cpu.thread_stack",
            Kind::Size { min: 256 * KIB, max: GIB },
            r#""8MiB""#,
            AtReload,
            "Stack of each worker. What a main thread has, which is what native libraries expect; only touched pages \
             cost memory.",
        ),
        key(
            "cpu.nice",
            Kind::Number { min: 0, max: 19 },
            "19",
            AtReload,
            "Niceness of each worker. 19 keeps the I/O threads awake beside full load at the same rate of work; \
             between services, CPUWeight= of the unit decides.",
        ),
        key(
            "cpu.memory",
            Kind::Size { min: MIB, max: 1024 * GIB },
            r#""1GiB""#,
            AtReload,
            "Working memory of all that runs, kept work areas included. A job that does not fit yet waits.",
        ),
        key(
            "queue.capacity",
            Kind::Number { min: 1, max: 16_777_216 },
            "16384",
            AtReload,
            "Requests that may wait for a worker. One more is refused at once as Overloaded.",
        ),
        key(
            "queue.memory",
            Kind::Size { min: KIB, max: 1024 * GIB },
            r#""512MiB""#,
            AtReload,
            "Inputs and outputs held, of all requests together. At least twice limits.body, because bodies that are \
             arriving may take half of it.",
        ),
        key(
            "queue.max_wait",
            duration(millisecond, DAY),
            r#""10s""#,
            AtReload,
            "Longest wait for a worker. A request that would wait for more than three quarters of it, by what waits and \
             runs already, is refused at once with the time after which it would not; one that has waited longer all the \
             same is answered Overloaded.",
        ),
        key(
            "queue.batch_weight",
            Kind::Share { max: 1000 },
            r#""1/8""#,
            AtReload,
            "The part of CPU time that batch requests get while interactive ones wait too.",
        ),
        key(
            "queue.fair_by",
            Kind::Choice(&["connection", "address", "uid"]),
            r#""connection""#,
            AtReload,
            "Between whom CPU time is shared. Clients whose work waits get equal parts of it, however much each has \
             waiting. \"address\" counts all connections of one IP address as one client, \"uid\" all connections of \
             one user of a Unix socket.",
        ),
        key(
            "limits.connections",
            Kind::NumberOrAuto { min: 1, max: 16_777_216 },
            r#""auto""#,
            AtReload,
            "Connections open at the same time. \"auto\" is what LimitNOFILE= leaves after 128 descriptors (of a \
             small limit, half) kept back for admin and for refusals.",
        ),
        key(
            "limits.in_flight_per_connection",
            Kind::Number { min: 1, max: 65536 },
            "1024",
            AtReload,
            "Requests unanswered on one connection. One more is refused as Overloaded.",
        ),
        // A frame's length field holds less than 4 GiB, and a body travels in one frame.
        key(
            "limits.body",
            Kind::Size { min: 1, max: 2 * GIB },
            r#""64MiB""#,
            AtReload,
            "Body of one request. An answer may be larger by what compressing a body that does not compress adds to it: one \
             part in 128, and 64KiB.",
        ),
        key(
            "limits.unwritten_per_connection",
            Kind::Size { min: KIB, max: 1024 * GIB },
            r#""8MiB""#,
            AtReload,
            "Answers that one connection has not read yet; above it, no more is read from it.",
        ),
        key(
            "timeouts.handshake",
            duration(millisecond, HOUR),
            r#""5s""#,
            AtReload,
            "From accepting a connection to its complete Hello. With HTTP: from accepting it, and from the first byte \
             of each head, to a complete head.",
        ),
        key(
            "timeouts.idle",
            duration(millisecond, DAY),
            r#""10m""#,
            AtReload,
            "Without a request in flight; then the connection is closed.",
        ),
        key(
            "timeouts.read",
            duration(millisecond, DAY),
            r#""30s""#,
            AtReload,
            "Without progress within a frame, or within a body of HTTP.",
        ),
        key(
            "timeouts.write",
            duration(millisecond, DAY),
            r#""30s""#,
            AtReload,
            "Without progress in taking an answer.",
        ),
        key(
            "timeouts.deadline_default",
            duration(millisecond, DAY),
            r#""30s""#,
            AtReload,
            "Deadline of a request that names none.",
        ),
        key(
            "timeouts.deadline_max",
            duration(millisecond, DAY),
            r#""10m""#,
            AtReload,
            "Longest deadline; a longer one is shortened to it.",
        ),
        key(
            "drain.quiet",
            duration(Duration::ZERO, HOUR),
            r#""0s""#,
            AtReload,
            "Not ready any more, but serving as before, so that a load balancer can look away first.",
        ),
        key(
            "drain.timeout",
            duration(Duration::ZERO, DAY),
            r#""30s""#,
            AtReload,
            "For accepted requests to finish; what still runs then is stopped, answered Cancelled, and the exit \
             status is 75.",
        ),
        key(
            "drain.cancel_grace",
            duration(Duration::ZERO, HOUR),
            r#""2s""#,
            AtReload,
            "For what was stopped to be answered.",
        ),
        key(
            "log.level",
            Kind::Level,
            r#""info""#,
            AtReload,
            "What is logged, at least. By target: \"info,windlass_actors=debug\".",
        ),
        key(
            "log.format",
            Kind::Choice(&["auto", "pretty", "json", "journald"]),
            r#""auto""#,
            AtRestart,
            "\"auto\" is \"journald\" where standard error leads to the journal, otherwise \"pretty\": lines of \
             text, in colours on a terminal. \"json\" is one object per line.",
        ),
    ]
}

/// The keys of `[operations.NAME]`.
fn of_operation(declaration: &Declaration) -> Vec<Key> {
    let section = format!("operations.{}", declaration.name);
    let word = |name: &str| name.replace('-', "_");
    let key = |name: String, kind: Kind, default: Option<String>, about: String| Key {
        name: format!("{section}.{name}"),
        kind,
        default,
        applies: Applies::AtReload,
        about,
    };
    let parameter = |kind: &ParameterKind| Kind::Parameter(kind.clone());
    let mut keys = vec![key(
        "max_concurrency".to_owned(),
        Kind::Number { min: 1, max: THREADS_MAX },
        None,
        "Most jobs of it that run at the same time. Unset: as many as there are workers.".to_owned(),
    )];
    if declaration.secrecy == Secrecy::Open {
        keys.push(key(
            "coalesce".to_owned(),
            Kind::Switch,
            Some("false".to_owned()),
            "Identical requests in flight, by operation, parameters and body, run once and are all answered with the \
             result: those that came before it was there, never a later one. Costs a digest of every body. Never for \
             operations with secrets, which do not have this key."
                .to_owned(),
        ));
    }
    for declared in declaration.parameters.iter().filter(|parameter| !parameter.required) {
        let default = declared.default.as_deref().map(|default| toml_value(&declared.kind, default));
        let about = format!("Default of the parameter: {}.", declared.about);
        keys.push(key(word(declared.name), parameter(&declared.kind), default, about));
    }
    for declared in &declaration.parameters {
        if let Some(max) = max_of(&declared.kind) {
            let about = format!("Most that a request may ask: {}.", declared.about);
            keys.push(key(
                format!("{}_max", word(declared.name)),
                parameter(&declared.kind),
                Some(toml_value(&declared.kind, &max)),
                about,
            ));
        }
    }
    for limit in &declaration.limits {
        let default = Some(toml_value(&limit.kind, &limit.value));
        keys.push(key(word(limit.name), parameter(&limit.kind), default, format!("{}.", limit.about)));
    }
    // A limit may bear the name that a parameter's maximum would have; `Declaration::set` takes the limit.
    let mut seen = Vec::new();
    keys.reverse();
    keys.retain(|key| {
        let first = !seen.contains(&key.name);
        seen.push(key.name.clone());
        first
    });
    keys.reverse();
    keys
}

fn max_of(kind: &ParameterKind) -> Option<String> {
    use windlass_actors::units::{format_duration, format_size};
    match kind {
        ParameterKind::Integer { max, .. } => Some(max.to_string()),
        ParameterKind::Duration { max, .. } => Some(format_duration(*max)),
        ParameterKind::Size { max, .. } => Some(format_size(*max)),
        ParameterKind::Choice(_) | ParameterKind::Text { .. } => None,
    }
}

/// A declared value as TOML: numbers bare, the rest quoted.
fn toml_value(kind: &ParameterKind, text: &str) -> String {
    match kind {
        ParameterKind::Integer { .. } => text.to_owned(),
        _ => quoted(text),
    }
}
