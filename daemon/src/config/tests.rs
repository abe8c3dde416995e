//! The configuration as a whole: every layer, every problem.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use windlass_actors::operation::{
    Arguments, Estimate, Input, JobContext, Limit, OperationError, Output, Parameter, ParameterKind,
    Resultant, Secrecy, Value,
};
use windlass_actors::settings::FairBy;

use super::*;

struct Fake(Declaration);

impl Operation for Fake {
    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn estimate(&self, _: &Arguments, _: u64) -> Result<Estimate, OperationError> {
        Err(OperationError::Internal("never asked".into()))
    }

    fn run(&self, _: &Arguments, _: Input, _: &mut JobContext<'_>) -> Result<Output, OperationError> {
        Err(OperationError::Internal("never run".into()))
    }
}

fn declaration(name: &'static str, parameters: Vec<Parameter>, limits: Vec<Limit>) -> Declaration {
    Declaration {
        name,
        about: "does something",
        parameters,
        limits,
        result: Resultant::Text,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: Duration::from_millis(10),
    }
}

fn known() -> Known<'static> {
    let level = Parameter {
        name: "level",
        kind: ParameterKind::Integer { min: -7, max: 22 },
        default: Some("3".into()),
        required: false,
        about: "how hard to try",
    };
    let unset = Parameter { name: "window-log", default: None, ..level.clone() };
    let memory_max = Limit {
        name: "memory_max",
        kind: ParameterKind::Size { min: 1 << 20, max: 1 << 30 },
        value: "64MiB".into(),
        about: "memory of one request",
    };
    let declared = vec![
        declaration("compress", vec![level, unset], vec![]),
        declaration("hash", vec![], vec![]),
        declaration("password-hash", vec![], vec![memory_max]),
        declaration("spin", vec![], vec![]),
    ];
    Known { declared, build: &|declaration| Arc::new(Fake(declaration)) }
}

const MACHINE: Machine = Machine { cores: NonZeroUsize::new(8).unwrap(), descriptors: 20_000 };

/// What is said on the three layers above the built-in defaults.
#[derive(Default)]
struct Said<'a> {
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
}

impl Said<'_> {
    fn load_on(&self, machine: &Machine) -> Result<Config, ConfigError> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("windlass.toml");
        std::fs::write(&path, self.file).unwrap();
        let environment = self.environment.iter().map(|(name, text)| (name.into(), text.into()));
        let flags = self.flags.iter().map(|flag| (*flag).to_owned()).collect();
        Config::load(&Sources::new(Some(path), environment, flags), &known(), machine)
    }

    fn load(&self) -> Config {
        self.load_on(&MACHINE).unwrap_or_else(|error| panic!("{error}"))
    }

    fn problems(&self) -> Vec<Problem> {
        self.load_on(&MACHINE).map(|_| ()).unwrap_err().problems
    }
}

fn file(file: &str) -> Said<'_> {
    Said { file, ..Said::default() }
}

fn keys(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.key.as_str()).collect()
}

#[test]
fn without_a_word_said_the_defaults_hold() {
    let config =
        Config::load(&Sources::new(None, [], vec![]), &known(), &MACHINE).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(config.listen.tcp, ["127.0.0.1:7410".parse().unwrap()]);
    assert_eq!(config.listen.http, ["127.0.0.1:7411".parse().unwrap()]);
    assert_eq!(config.listen.admin, Some("127.0.0.1:7412".parse().unwrap()));
    assert_eq!(config.listen.unix, []);
    assert_eq!((config.io.threads.get(), config.cpu.threads.get(), config.cpu.nice), (2, 8, 19));
    assert_eq!(config.cpu.work_bytes_max, 1 << 30);
    assert_eq!(config.settings.limits.connections_max, 20_000 - 128);
    assert_eq!(config.settings.queue.batch_share.get(), 8);
    assert_eq!(config.settings.drain.cancel_grace, Duration::from_secs(2));
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Auto));
    assert_eq!(config.settings.catalogue.entries().len(), 4);
    assert_eq!(config.resolved(), [("io.threads", 2), ("cpu.threads", 8), ("limits.connections", 19_872)]);
}

#[test]
fn automatic_numbers_follow_the_machine() {
    for (cores, io) in [(1, 1), (3, 1), (4, 1), (16, 4)] {
        let machine = Machine { cores: NonZeroUsize::new(cores).unwrap(), ..MACHINE };
        let config = Said::default().load_on(&machine).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((config.io.threads.get(), config.cpu.threads.get()), (io, cores));
    }
    for (descriptors, connections) in [(1024, 896), (256, 128), (200, 100), (64, 32)] {
        let config = Said::default().load_on(&Machine { descriptors, ..MACHINE });
        let config = config.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(config.settings.limits.connections_max, connections);
    }
}

#[test]
fn the_file_is_below_the_environment_which_is_below_the_flags() {
    let text = "[drain]\nquiet = \"1s\"\ntimeout = \"1s\"\ncancel_grace = \"1s\"";
    let environment = [("WINDLASS__DRAIN__TIMEOUT", "2s"), ("WINDLASS__DRAIN__CANCEL_GRACE", "2s")];
    let flags = ["drain.cancel_grace=3s"];
    let config = Said { file: text, environment: &environment, flags: &flags }.load();
    let drain = &config.settings.drain;
    let seconds = [drain.quiet, drain.timeout, drain.cancel_grace].map(|duration| duration.as_secs());
    assert_eq!(seconds, [1, 2, 3]);
    let config = Said { flags: &["io.threads=2", "io.threads=3"], ..Said::default() }.load();
    assert_eq!(config.io.threads.get(), 3, "the last flag wins");
}

#[test]
fn a_list_is_replaced_by_a_higher_layer_and_not_merged() {
    let text = "[listen]\ntcp = [\"127.0.0.1:1\", \"127.0.0.1:2\", \"127.0.0.1:3\"]";
    let environment = [("WINDLASS__LISTEN__TCP", "[::1]:4, 127.0.0.1:5")];
    let config = Said { file: text, environment: &environment, flags: &[] }.load();
    assert_eq!(config.listen.tcp, ["[::1]:4".parse().unwrap(), "127.0.0.1:5".parse().unwrap()]);
    let config = Said { file: text, flags: &["listen.tcp="], ..Said::default() }.load();
    assert_eq!(config.listen.tcp, []);
}

#[test]
fn every_key_can_be_set_from_the_environment_and_by_a_flag() {
    for key in Schema::new(&known().declared).keys {
        let Some(default) = key.default.clone() else { continue };
        let text = match default.clone() {
            text if text.starts_with('[') => text.trim_matches(['[', ']']).replace('"', ""),
            text => text.trim_matches('"').to_owned(),
        };
        let (variable, flag) = (key.variable(), format!("{}={text}", key.name));
        let by_variable = Said { environment: &[(&variable, &text)], ..Said::default() }.load();
        let by_flag = Said { flags: &[&flag], ..Said::default() }.load();
        for (config, origin) in [(by_variable, Origin::Variable(variable.clone())), (by_flag, Origin::Flag)] {
            let found = config.effective.iter().find(|effective| effective.name == key.name).unwrap();
            assert_eq!((found.found.as_deref(), &found.origin), (Some(default.as_str()), &origin));
        }
    }
}

#[test]
fn underscores_in_a_variable_stand_for_hyphens_in_names() {
    let environment = [("WINDLASS__OPERATIONS__PASSWORD_HASH__MEMORY_MAX", "32MiB")];
    let config = Said { environment: &environment, ..Said::default() }.load();
    let entry = config.settings.catalogue.find("password-hash").unwrap();
    assert_eq!(entry.operation.declaration().limit("memory_max"), Value::Size(32 << 20));
}

#[test]
fn variables_of_others_are_none_of_our_business() {
    let environment =
        [("WINDLASS_PORT", "tcp://10.0.0.1:7410"), ("windlass__io__threads", "x"), ("PATH", "/bin")];
    Said { environment: &environment, ..Said::default() }.load();
}

#[test]
fn every_problem_is_listed_at_once_with_key_value_place_reason_and_hint() {
    let text = r#"
[io]
threads = 0
thread_stak = "2MiB"
[cpu]
threads = "four"
nice = 20
memory = 1024
[queue]
capacity = 2.5
max_wait = "10 seconds"
batch_weight = "1/1"
fair_by = "user"
[limits]
connections = 30000
body = "64MB"
[timeouts]
idle = "0s"
read = 30
deadline_default = "20m"
[drain]
graceful = true
[log]
level = "loud"
format = "xml"
[operations]
enabled = ["hash", "compres"]
[operations.password-hash]
memory_max = "2GiB"
[operations.hash]
salt = "x"
[web]
port = 80
"#;
    let environment = [("WINDLASS__LISTEN__UNIX", "run/w.sock"), ("WINDLASS__CPU__THREAD", "4")];
    let flags = ["listen.tcp=localhost:7410", "listen.htp=127.0.0.1:1", "drain.timeout"];
    let problems = Said { file: text, environment: &environment, flags: &flags }.problems();
    let expected = [
        "io.thread_stak",
        "drain.graceful",
        "operations.hash.salt",
        "web",
        "WINDLASS__CPU__THREAD",
        "listen.htp",
        "drain.timeout",
        "listen.tcp",
        "listen.unix",
        "io.threads",
        "cpu.threads",
        "cpu.nice",
        "cpu.memory",
        "queue.capacity",
        "queue.max_wait",
        "queue.batch_weight",
        "queue.fair_by",
        "limits.connections",
        "limits.body",
        "timeouts.idle",
        "timeouts.read",
        "timeouts.deadline_default",
        "log.level",
        "log.format",
        "operations.enabled",
        "operations.password-hash.memory_max",
    ];
    let (mut found, mut expected) = (keys(&problems), expected.to_vec());
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);

    let told = ConfigError { problems }.to_string();
    for part in [
        "26 problems in the configuration",
        "io.threads = 0 (file ",
        "windlass.toml, line 3): 0 is outside 1 to 1024\n    hint: or write \"auto\"",
        "hint: did you mean io.thread_stack?",
        "cpu.memory = 1024 (file",
        "hint: say the unit, for example \"1024MiB\"",
        "'MB' is not a unit of size; the units are B KiB MiB GiB",
        "30000 (file",
        "is more than the 19872 that 20000 descriptors allow, 128 of them kept back",
        "hint: did you mean \"compress\"?",
        "hint: did you mean WINDLASS__CPU__THREADS?",
        "listen.unix = [\"run/w.sock\"] (environment variable WINDLASS__LISTEN__UNIX): ",
        "listen.tcp = [\"localhost:7410\"] (--set): ",
        "hint: did you mean listen.http?",
        "'loud' is not a level",
        "is longer than timeouts.deadline_max = \"10m\"",
        "hint: the sections are listen, io, cpu,",
    ] {
        assert!(told.contains(part), "{part}\nis not in\n{told}");
    }
}

#[test]
fn a_wrong_type_says_both_types() {
    for (text, reason) in [
        ("[cpu]\nthreads = true", "is true or false, not \"auto\" or a whole number"),
        ("[cpu]\nthreads = \"4\"", "is a text, not"),
        ("[listen]\ntcp = \"127.0.0.1:1\"", "is a text, not a list"),
        ("[listen]\nallow_remote = \"yes\"", "is a text, not true or false"),
        ("[listen]\nunix_mode = 660", "is a bare number, not permission bits"),
        ("[drain.timeout]\nseconds = 3", "is a table, not a duration"),
        ("log = \"info\"", "is a section, not a value"),
        ("[operations.compress]\nlevel = \"9\"", "is a text, not a whole number"),
        ("[queue]\ncapacity = 99999999999999999999", "99999999999999999999 is outside 1 to"),
    ] {
        let problems = file(text).problems();
        assert_eq!(problems.len(), 1, "{text}");
        assert!(problems[0].reason.contains(reason), "{text}: {}", problems[0]);
    }
}

#[test]
fn a_key_that_others_call_otherwise_fails_with_its_name_here() {
    let schema = Schema::new(&known().declared);
    for (there, here) in schema::ELSEWHERE {
        assert!(schema.find(here).is_some() && schema.find(there).is_none(), "{there} -> {here}");
    }
    let problems = file("[cpu]\nworkers = 4\n[queue]\nbody = \"1MiB\"").problems();
    let hints: Vec<_> = problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert_eq!(hints, ["it is called cpu.threads here", "did you mean limits.body?"]);
}

#[test]
fn values_in_contradiction_are_problems() {
    for (text, key, reason) in [
        ("[queue]\nmemory = \"100MiB\"", "queue.memory", "does not hold one of limits.body = \"64MiB\""),
        ("[listen]\ntcp = [\"0.0.0.0:1\"]", "listen.tcp", "0.0.0.0:1 can be reached from other machines"),
        ("[listen]\nadmin = \"[::]:1\"", "listen.admin", "can be reached"),
        ("[listen]\nhttp = [\"127.0.0.1:7410\"]", "listen.http", "is taken by listen.tcp already"),
        ("[listen]\ntcp = [\"127.0.0.1:1\", \"127.0.0.1:1\"]", "listen.tcp", "is listed twice"),
        ("[listen]\nunix = [\"/a\", \"/a\"]", "listen.unix", "is listed twice"),
        ("[listen]\ntcp = []\nhttp = []", "listen", "no address is left"),
        ("[operations.compress]\nlevel_max = 2", "operations.compress", "the default of parameter 'level'"),
    ] {
        let problems = file(text).problems();
        assert_eq!(keys(&problems), [key], "{text}");
        assert!(problems[0].reason.contains(reason), "{text}: {}", problems[0]);
    }
}

#[test]
fn what_a_faulty_value_contradicts_is_not_told_as_well() {
    assert_eq!(
        keys(&file("[limits]\nbody = \"lots\"\n[queue]\nmemory = \"1MiB\"").problems()),
        ["limits.body"]
    );
    assert_eq!(keys(&file("[listen]\ntcp = [\"x\"]\nhttp = []").problems()), ["listen.tcp"]);
}

#[test]
fn other_machines_may_come_in_where_the_operator_says_so() {
    let config = file("[listen]\nallow_remote = true\ntcp = [\"0.0.0.0:7410\"]\nadmin = \"off\"").load();
    assert_eq!((config.listen.allow_remote, config.listen.admin), (true, None));
    let config = file("[listen]\ntcp = [\"127.1.2.3:0\", \"[::1]:0\", \"127.1.2.3:0\"]").load();
    assert_eq!(config.listen.tcp.len(), 3, "port 0 is another one each time");
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_beside_the_others() {
    let sources = |path: &str| Sources::new(Some(PathBuf::from(path)), [], vec!["cpu.nice=99".into()]);
    let directory = TempDir::new().unwrap();
    for path in ["/nonexistent/windlass.toml", directory.path().to_str().unwrap()] {
        let problems = Config::load(&sources(path), &known(), &MACHINE).map(|_| ()).unwrap_err().problems;
        assert_eq!(keys(&problems), [path, "cpu.nice"]);
        assert!(problems[0].reason.contains("cannot be read"), "{}", problems[0]);
    }
    let path = directory.path().join("latin1.toml");
    std::fs::write(&path, b"[log]\nlevel = \"inf\xf6\"").unwrap();
    let problems =
        Config::load(&sources(path.to_str().unwrap()), &known(), &MACHINE).map(|_| ()).unwrap_err().problems;
    assert!(problems[0].reason.contains("line 2 is not UTF-8"), "{}", problems[0]);
    assert_eq!(problems.len(), 2);
}

#[test]
fn a_syntax_error_names_line_and_column() {
    for (text, place) in [
        ("[cpu]\nthreads = \n", "line 2, column 11"),
        ("[cpu]\nthreads = 1\nthreads = 2\n", "line 3, column 1"),
        ("[cpu\n", "line 1, column 5"),
        ("[cpu]\nthreads: 4\n", "line 2, column"),
    ] {
        let problems = file(text).problems();
        assert!(problems.iter().any(|problem| problem.reason.contains(place)), "{text}: {problems:?}");
        assert!(problems.iter().all(|problem| problem.reason.contains("not TOML")), "{text}: {problems:?}");
    }
}

#[test]
fn a_variable_that_is_not_text_is_a_problem() {
    use std::os::unix::ffi::OsStringExt;
    let text = OsString::from_vec(b"inf\xf6".to_vec());
    let sources = Sources::new(None, [("WINDLASS__LOG__LEVEL".into(), text)], vec![]);
    let problems = Config::load(&sources, &known(), &MACHINE).map(|_| ()).unwrap_err().problems;
    assert_eq!(keys(&problems), ["WINDLASS__LOG__LEVEL"]);
}

#[test]
fn operations_are_enabled_limited_and_keep_their_places() {
    let text = r#"
[operations]
enabled = ["password-hash", "compress"]
[operations.compress]
max_concurrency = 2
level = 9
level_max = 12
window_log = 20
[operations.spin]
max_concurrency = 1
"#;
    let config = file(text).load();
    let entries = config.settings.catalogue.entries();
    let places: Vec<_> = entries.iter().map(|entry| (entry.name(), entry.index.0)).collect();
    assert_eq!(places, [("compress", 0), ("password-hash", 2)]);
    assert_eq!(entries[0].concurrency_max, NonZeroUsize::new(2));
    let declaration = entries[0].operation.declaration();
    assert_eq!(declaration.parameters[0].default.as_deref(), Some("9"));
    assert_eq!(declaration.parameters[0].kind, ParameterKind::Integer { min: -7, max: 12 });
    assert_eq!(declaration.parameters[1].default.as_deref(), Some("20"));
    assert_eq!(file("[operations]\nenabled = []").load().settings.catalogue.entries().len(), 0);
}

#[test]
fn every_value_reaches_its_place() {
    let text = r#"
[listen]
unix = ["/run/windlass/w.sock"]
unix_mode = "0600"
unix_owner = "root"
unix_group = 7
[io]
threads = 3
thread_stack = "1MiB"
[cpu]
threads = 5
thread_stack = "4MiB"
nice = 7
memory = "2GiB"
[queue]
capacity = 9
memory = "1GiB"
max_wait = "11s"
batch_weight = "1/3"
fair_by = "uid"
[limits]
connections = 12
in_flight_per_connection = 13
body = "14KiB"
unwritten_per_connection = "15KiB"
[timeouts]
handshake = "1s"
idle = "2s"
read = "3s"
write = "4s"
deadline_default = "5s"
deadline_max = "6s"
[drain]
quiet = "7s"
timeout = "8s"
cancel_grace = "9s"
[log]
level = "debug"
format = "json"
"#;
    let config = file(text).load();
    let unix = &config.listen.unix[0];
    assert_eq!((unix.mode, unix.uid, unix.gid), (0o600, Some(0), Some(7)));
    assert_eq!(config.io, Io { threads: NonZeroUsize::new(3).unwrap(), thread_stack_bytes: 1 << 20 });
    assert_eq!((config.cpu.threads.get(), config.cpu.thread_stack_bytes), (5, 4 << 20));
    assert_eq!((config.cpu.nice, config.cpu.work_bytes_max), (7, 2 << 30));
    let Settings { queue, limits, timeouts, drain, .. } = &config.settings;
    assert_eq!((queue.capacity.get(), queue.memory_bytes_max), (9, 1 << 30));
    assert_eq!((queue.wait_max.as_secs(), queue.batch_share.get()), (11, 3));
    assert_eq!(queue.fair_by, FairBy::Uid);
    assert_eq!((limits.connections_max, limits.in_flight_per_connection.get()), (12, 13));
    assert_eq!((limits.body_bytes_max, limits.unwritten_bytes_max), (14 << 10, 15 << 10));
    let times = [
        timeouts.handshake,
        timeouts.idle,
        timeouts.read,
        timeouts.write,
        timeouts.deadline_default,
        timeouts.deadline_max,
        drain.quiet,
        drain.timeout,
        drain.cancel_grace,
    ];
    assert_eq!(times.map(|time| time.as_secs()), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!((config.log.level.as_str(), config.log.format), ("debug", LogFormat::Json));
}

#[test]
fn a_reload_knows_what_it_takes_and_what_needs_a_restart() {
    let old = file("[timeouts]\nidle = \"60s\"").load();
    let new =
        file("[timeouts]\nidle = \"1m\"\nread = \"31s\"\n[cpu]\nthreads = 8\nnice = 5\n[listen]\nhttp = []")
            .load();
    assert_eq!(old.restart_needed(&new), ["listen.http", "cpu.nice"]);
    assert_eq!(old.reloaded(&new), ["timeouts.read"]);
    assert!(old.restart_needed(&old).is_empty());
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    let text = "[cpu]\nthreads = 3\n[operations]\nenabled = [\"hash\"]\n[operations.compress]\nlevel = -1\n";
    let flags = ["log.level=info,windlass_actors=debug", "listen.unix=/run/a \"b\" #c.sock"];
    let environment = [("WINDLASS__LISTEN__ADMIN", "off")];
    let config = Said { file: text, environment: &environment, flags: &flags }.load();
    let printed = config.print();
    let again = file(&printed).load();
    let values = |config: &Config| {
        config.effective.iter().map(|key| (key.name.clone(), key.setting.clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&config), values(&again), "{printed}");
    assert_eq!(
        (&config.listen, &config.io, &config.cpu, &config.log),
        (&again.listen, &again.io, &again.cpu, &again.log)
    );
    assert!(printed.contains("threads = 3 # file "), "{printed}");
    assert!(printed.contains("threads = \"auto\" # 2 here; built-in default"), "{printed}");
    assert!(printed.contains("admin = \"off\" # environment variable WINDLASS__LISTEN__ADMIN"), "{printed}");
}

#[test]
fn the_table_of_keys_is_sound() {
    let schema = Schema::new(&known().declared);
    for (place, key) in schema.keys.iter().enumerate() {
        assert!(schema.keys[..place].iter().all(|other| other.name != key.name), "{} stands twice", key.name);
        assert!(schema.keys[..place].iter().all(|other| other.variable() != key.variable()), "{}", key.name);
        assert!(key.about.ends_with('.'), "{}", key.name);
        let (section, _) = key.parts();
        let top = section.split('.').next().unwrap();
        assert!(schema::SECTIONS.iter().any(|(name, _)| *name == top), "{}", key.name);
    }
}

#[test]
fn the_reference_file_with_every_key_uncommented_is_the_defaults() {
    let text = reference(&known(), "Head.", &[]);
    let uncommented: Vec<_> = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.split_once(" = ").is_some_and(|(word, _)| is_word(word)) => rest,
            _ => line,
        })
        .collect();
    let uncommented = uncommented.join("\n");
    let config = file(&uncommented).load();
    let defaults = file(&text).load();
    assert!(defaults.effective.iter().all(|key| key.origin == Origin::Default));
    for (set, default) in config.effective.iter().zip(&defaults.effective) {
        assert_eq!((&set.found, &set.setting), (&default.found, &default.setting), "{}", set.name);
        assert_eq!(set.origin == Origin::Default, set.found.is_none(), "{}", set.name);
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
