//! The rules of the house: who may name what. Invariants are absences, so they are looked for in the sources.

use std::path::{Path, PathBuf};

use windlass_tests::repository;

/// Sources below `folder`, with their path from the top of the repository; test modules are left out.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(path: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && !path.ends_with("tests.rs")
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&repository().join(folder), &mut found);
    assert!(!found.is_empty(), "{folder} has sources");
    let read = |path: PathBuf| {
        let name = path.strip_prefix(repository()).unwrap().display().to_string();
        (name, without_tests_and_comments(&std::fs::read_to_string(path).unwrap()))
    };
    found.into_iter().map(read).collect()
}

/// Code without comments, and without the test module that ends a file.
fn without_tests_and_comments(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// No source below `folder` may name any of `words`, except those whose path starts with one of `except`.
#[track_caller]
fn never_named(words: &[&str], folder: &str, except: &[&str]) {
    let broken: Vec<String> = sources(folder)
        .into_iter()
        .filter(|(path, _)| !except.iter().any(|allowed| path.starts_with(allowed)))
        .flat_map(|(path, code)| {
            words
                .iter()
                .filter(|word| code.contains(**word))
                .map(|word| format!("{path} names {word}"))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_bridge_names_flume_and_oneshot() {
    never_named(&["flume", "oneshot"], "actors/src", &["actors/src/dispatch/"]);
    never_named(&["flume", "oneshot::"], "daemon/src", &[]);
}

#[test]
fn only_the_http_door_names_hyper() {
    never_named(&["hyper"], "actors/src", &[]);
    never_named(&["hyper"], "daemon/src", &["daemon/src/http/", "daemon/src/admin", "daemon/src/guard.rs"]);
}

#[test]
fn only_the_cpu_world_names_rayon() {
    never_named(&["rayon"], "actors/src", &["actors/src/cpu/"]);
    never_named(&["rayon"], "daemon/src", &[]);
}

#[test]
fn the_cpu_world_sees_no_runtime_and_no_socket() {
    never_named(&["tokio", "async fn", ".await", "std::net", "UnixStream"], "actors/src/cpu", &[]);
}

#[test]
fn operations_see_no_runtime_no_channel_no_socket_and_no_clock() {
    let words = ["tokio", "flume", "rayon", "std::net", "std::os::unix::net", "Instant", "SystemTime"];
    never_named(&words, "daemon/src/operations", &[]);
}

/// Clocks that are set, back or forth, change nothing but the time that a log line bears: whatever is decided by time
/// is decided by the monotonic clock. `sent_at`, which the client alone fills in, is for people.
#[test]
fn nothing_is_decided_by_the_wall_clock() {
    let words = ["SystemTime", "UNIX_EPOCH", "ClockId::Realtime", "chrono::", "OffsetDateTime"];
    never_named(&words, "actors/src", &[]);
    never_named(&words, "daemon/src", &[]);
    never_named(&words, "protocol/src", &["protocol/src/client/outgoing.rs"]);
}

#[test]
fn imports_point_one_way() {
    never_named(&["windlass_actors", "windlass_daemon"], "protocol/src", &[]);
    never_named(&["windlass_daemon"], "actors/src", &[]);
    for (package, forbidden) in
        [("protocol", "windlass-actors"), ("protocol", "windlass-daemon"), ("actors", "windlass-daemon")]
    {
        let manifest = std::fs::read_to_string(repository().join(package).join("Cargo.toml")).unwrap();
        let dependencies = manifest.split("[dependencies]").nth(1).unwrap();
        assert!(!dependencies.contains(forbidden), "{package} depends on {forbidden}");
    }
}

#[test]
fn the_client_program_sees_the_client_alone() {
    for (path, code) in sources("daemon/src/bin/windlass") {
        assert!(!code.contains("windlass_actors") && !code.contains("windlass_daemon::"), "{path}");
        for part in code.split("windlass_protocol::").skip(1) {
            assert!(part.starts_with("client"), "{path}: windlass_protocol::{}", &part[..20.min(part.len())]);
        }
    }
}

#[test]
fn only_one_file_names_bincode() {
    never_named(&["bincode"], "protocol/src", &["protocol/src/header.rs"]);
    never_named(&["bincode"], "actors/src", &[]);
    never_named(&["bincode"], "daemon/src", &[]);
}

#[test]
fn the_environment_is_read_in_the_daemon_alone() {
    never_named(&["std::env", "env::var"], "actors/src", &[]);
    never_named(&["std::env", "env::var"], "protocol/src", &[]);
}

#[test]
fn the_blocking_pool_is_not_used() {
    for folder in ["actors/src", "daemon/src"] {
        never_named(&["spawn_blocking", "block_in_place", "tokio::fs"], folder, &[]);
    }
}
