//! Every problem, told at once, with its place.

use std::path::PathBuf;

use super::*;

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
    let problems = file("[cpu]\nworkers = 4\n[queue]\nbody = \"1MiB\"\n[operations.hahs]\nx = 1").problems();
    let hints: Vec<_> = problems.iter().filter_map(|problem| problem.hint.as_deref()).collect();
    assert_eq!(
        hints,
        ["it is called cpu.threads here", "did you mean limits.body?", "did you mean operations.hash?"]
    );
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
