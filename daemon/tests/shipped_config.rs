//! `deploy/windlass.toml` and the code agree.
//!
//! After a key or an operation has changed, `WINDLASS_WRITE_SHIPPED=1 cargo test -p windlass-daemon --test
//! shipped_config` writes the file anew.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use windlass_daemon::config::{Config, Known, Machine, Sources, keys, shipped};
use windlass_daemon::operations;

const MACHINE: Machine =
    Machine { cores: NonZeroUsize::new(4).expect("four is not zero"), descriptors: 20_000 };

/// The file; written anew first, once, where that was asked for.
fn path() -> &'static Path {
    static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/windlass.toml");
        if std::env::var_os("WINDLASS_WRITE_SHIPPED").is_some() {
            std::fs::write(&path, shipped(&known())).expect("the file can be written");
        }
        path
    });
    &PATH
}

/// What a released binary knows: without the faults, which the tests of containment build in.
fn known() -> Known<'static> {
    let released = |name: &str| !name.starts_with("fault-");
    let declared = operations::declared();
    Known {
        declared: declared.into_iter().filter(|declared| released(declared.name)).collect(),
        build: &operations::build,
    }
}

fn load(file: Option<&Path>) -> Config {
    let sources = Sources::new(file.map(Path::to_owned), [], Vec::new());
    Config::load(&sources, &known(), &MACHINE).unwrap_or_else(|error| panic!("{error}"))
}

/// `# word = value`, uncommented, or `None`.
fn commented_key(line: &str) -> Option<(&str, &str)> {
    let (word, value) = line.strip_prefix("# ")?.split_once(" =")?;
    let is_word = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    (is_word && (value.is_empty() || value.starts_with(' '))).then(|| (word, value.trim()))
}

/// Every commented key of the file: its full name, and its value as TOML, empty where it is unset.
fn commented_keys(text: &str) -> Vec<(String, String)> {
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((word, value)) = commented_key(line) {
            found.push((format!("{section}.{word}"), value.to_owned()));
        }
    }
    found
}

#[test]
fn the_shipped_file_is_what_the_code_says() {
    let expected = shipped(&known());
    let found = std::fs::read_to_string(path()).unwrap();
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "deploy/windlass.toml differs from the code from line {} on; WINDLASS_WRITE_SHIPPED=1 writes it anew",
        differs.unwrap_or_default() + 1
    );
}

#[test]
fn every_key_stands_in_the_shipped_file_once_with_its_default_and_no_other() {
    let text = std::fs::read_to_string(path()).unwrap();
    let found = commented_keys(&text);
    let by_name: BTreeMap<_, _> = found.iter().cloned().collect();
    assert_eq!(by_name.len(), found.len(), "a key stands there twice");
    let expected: BTreeMap<_, _> =
        keys(&known()).into_iter().map(|(name, default)| (name, default.unwrap_or_default())).collect();
    assert_eq!(by_name, expected);
}

#[test]
fn the_shipped_file_with_every_key_uncommented_is_the_defaults() {
    let text = std::fs::read_to_string(path()).unwrap();
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.starts_with("enabled = "))
        .map(|line| match commented_key(line) {
            Some((word, value)) if !value.is_empty() => format!("{word} = {value}"),
            _ => line.to_owned(),
        })
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    let (defaults, uncommented) = (load(None), load(Some(file.path())));
    assert_eq!(defaults.restart_needed(&uncommented), Vec::<String>::new());
    assert_eq!(defaults.reloaded(&uncommented), Vec::<String>::new());
}

#[test]
fn the_shipped_file_is_valid_and_differs_from_the_defaults_in_spin_alone() {
    let (defaults, shipped) = (load(None), load(Some(path())));
    assert_eq!(defaults.restart_needed(&shipped), Vec::<String>::new());
    assert_eq!(defaults.reloaded(&shipped), ["operations.enabled"]);
    let names = |config: &Config| {
        config.settings.catalogue.entries().iter().map(|entry| entry.name()).collect::<Vec<_>>()
    };
    let mut with_spin = names(&shipped);
    assert!(!with_spin.contains(&"spin"));
    with_spin.push("spin");
    with_spin.sort_unstable();
    assert_eq!(with_spin, names(&defaults));
}
