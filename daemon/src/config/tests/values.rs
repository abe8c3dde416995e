//! What the values come to.

use windlass_actors::settings::FairBy;

use super::*;

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
fn other_machines_may_come_in_where_the_operator_says_so() {
    let config = file("[listen]\nallow_remote = true\ntcp = [\"0.0.0.0:7410\"]\nadmin = \"off\"").load();
    assert_eq!((config.listen.allow_remote, config.listen.admin), (true, None));
    let config = file("[listen]\ntcp = [\"127.1.2.3:0\", \"[::1]:0\", \"127.1.2.3:0\"]").load();
    assert_eq!(config.listen.tcp.len(), 3, "port 0 is another one each time");
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
        file("[timeouts]\nidle = \"1m\"\nread = \"31s\"\n[cpu]\nthreads = 8\nnice = 5\n[io]\nthreads = 7\n[listen]\nhttp = []")
            .load();
    assert_eq!(old.restart_needed(&new), ["listen.http", "io.threads"]);
    assert_eq!(old.reloaded(&new), ["cpu.nice", "timeouts.read"]);
    assert!(old.restart_needed(&old).is_empty());
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
