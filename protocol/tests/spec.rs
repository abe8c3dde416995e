//! SPEC.md is covered: each of its numbered requirements is cited by a test, and no test cites a number that it does
//! not have. A citation is the number anywhere in a `.rs` file of `protocol/tests`, or in a `.rs` or `.py` file of the
//! `tests` folder of the workspace, usually as the first line of a test's documentation.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

#[allow(dead_code, reason = "shared by several test programs, each of which uses a part")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use support::{crate_folder, spec};

const SIGN: &str = "W-";

/// The numbers that follow each `W-` of `text`.
fn numbers(text: &str) -> BTreeSet<u32> {
    let after = |(place, _): (usize, &str)| {
        let digits = text[place + SIGN.len()..].split(|letter: char| !letter.is_ascii_digit()).next();
        let word_before = text[..place].chars().next_back().is_some_and(char::is_alphanumeric);
        digits.filter(|_| !word_before).and_then(|digits| digits.parse().ok())
    };
    text.match_indices(SIGN).filter_map(after).collect()
}

/// Every requirement of SPEC.md with its first mark, in the order of the document.
fn requirements() -> Vec<(u32, String)> {
    let requirement = |line: &str| {
        let (number, rest) = line.strip_prefix("- **W-")?.split_once("** *(")?;
        Some((number.parse().unwrap(), rest.split_once(")*")?.0.to_owned()))
    };
    spec().lines().filter_map(requirement).collect()
}

/// The files below `folder` with one of these endings; none where there is no such folder.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| match path.extension().and_then(|ending| ending.to_str()) {
            _ if path.is_dir() => files(&path, endings),
            Some(ending) if endings.contains(&ending) => vec![path],
            _ => Vec::new(),
        })
        .collect()
}

/// Each cited number with the files that cite it. This file cites nothing.
fn citations() -> BTreeMap<u32, Vec<PathBuf>> {
    let mut sources = files(&crate_folder().join("tests"), &["rs"]);
    sources.retain(|path| !path.ends_with("tests/spec.rs"));
    sources.extend(files(&crate_folder().join("src/client"), &["rs"]));
    sources.extend(files(&crate_folder().join("../daemon/src/bin/windlass"), &["rs"]));
    sources.extend(files(&crate_folder().join("../tests"), &["rs", "py"]));
    let mut citations: BTreeMap<u32, Vec<PathBuf>> = BTreeMap::new();
    for path in sources {
        for number in numbers(&std::fs::read_to_string(&path).unwrap()) {
            citations.entry(number).or_default().push(path.clone());
        }
    }
    citations
}

#[test]
fn requirements_are_numbered_in_order_and_marked() {
    let requirements = requirements();
    let marked_lines = spec().lines().filter(|line| line.starts_with("- **W-")).count();
    assert_eq!(requirements.len(), marked_lines, "a requirement without a mark");
    assert!(requirements.len() > 50);
    for pair in requirements.windows(2) {
        assert!(pair[0].0 < pair[1].0, "{} before {}", pair[0].0, pair[1].0);
    }
    for (number, mark) in &requirements {
        assert!(["codec", "daemon", "client"].contains(&mark.as_str()), "{number} is marked ({mark})");
    }
    let defined: BTreeSet<u32> = requirements.iter().map(|(number, _)| *number).collect();
    let dangling: Vec<_> = numbers(&spec()).difference(&defined).copied().collect();
    assert!(dangling.is_empty(), "SPEC.md refers to requirements that it does not have: {dangling:?}");
}

#[test]
fn every_requirement_is_cited_by_a_test() {
    let requirements = requirements();
    let citations = citations();
    let mut problems = Vec::new();
    for (number, mark) in &requirements {
        if !citations.contains_key(number) {
            problems.push(format!("W-{number} ({mark}) is not cited by a test"));
        }
    }
    let known = |number: &u32| requirements.iter().any(|(known, _)| known == number);
    for (number, paths) in citations.iter().filter(|(number, _)| !known(number)) {
        problems.push(format!("{} cites W-{number}, which SPEC.md does not have", paths[0].display()));
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

#[test]
fn citations_are_found_whole() {
    let text = format!("{SIGN}12, ({SIGN}3) {SIGN}120. x{SIGN}7 {SIGN} {SIGN}x");
    assert_eq!(numbers(&text), BTreeSet::from([3, 12, 120]));
}
