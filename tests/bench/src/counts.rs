//! Instructions of each piece, counted by callgrind and compared with the record: on a noisy machine a count shows
//! what a time hides.
//!
//! A piece is run twice, the second time with twice the repetitions. The difference of the two counts is free of what
//! starting, making ready and ending cost.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};
use windlass_bench::pieces::PIECES;

use crate::programs::{built, installed, repository};
use crate::trouble::{Attempt, Result, failed};

/// Repetitions of the shorter run; a multiple of what the pieces keep in flight.
const REPETITIONS: u32 = 2048;

/// Growth that needs an updated record, of the recorded count.
const GROWTH_MAX: f64 = 0.05;

/// What is kept in the repository.
#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Record {
    /// Compiler and target: others make other instructions.
    rustc: String,
    /// Valgrind shows a processor of its own to the programs it runs.
    valgrind: String,
    /// Of one repetition of each piece.
    instructions: BTreeMap<String, f64>,
}

/// What is done with the counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    Compare,
    Write,
}

pub(crate) fn run(task: Task) -> Result<ExitCode> {
    let valgrind = installed("valgrind", "valgrind")?;
    let pieces = built("windlass-bench", "windlass-pieces")?;
    let found = Record {
        rustc: rustc()?,
        valgrind: crate::programs::version(&valgrind, "--version"),
        instructions: PIECES
            .iter()
            .map(|piece| Ok((piece.name.to_owned(), per_repetition(&valgrind, &pieces, piece.name)?)))
            .collect::<Result<_>>()?,
    };
    match task {
        Task::Write => write(&found),
        Task::Compare => compare(&found),
    }
}

fn path() -> PathBuf {
    repository().join("tests/bench/counts.toml")
}

fn write(found: &Record) -> Result<ExitCode> {
    let table = toml::to_string(found).trying("write the counts as TOML")?;
    let text = format!(
        "# Instructions of one repetition of each piece, counted by callgrind; see src/pieces.rs.\n\
         # Written by: cargo run --release -p windlass-bench -- counts --write\n\n{table}"
    );
    std::fs::write(path(), text).trying(format!("write {}", path().display()))?;
    println!("{} pieces recorded in {}", found.instructions.len(), path().display());
    Ok(ExitCode::SUCCESS)
}

fn compare(found: &Record) -> Result<ExitCode> {
    let text = std::fs::read_to_string(path()).trying(format!("read {}", path().display()))?;
    let record: Record = toml::from_str(&text).trying(format!("understand {}", path().display()))?;
    let (page, grown) = report(&record, found);
    print!("{page}");
    if record.rustc != found.rustc || record.valgrind != found.valgrind {
        println!(
            "not compared: the record is of {}, {}; this is {}, {}",
            record.rustc, record.valgrind, found.rustc, found.valgrind
        );
        return Ok(ExitCode::SUCCESS);
    }
    if grown.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    failed(format!(
        "more than {:.0} % above the record, or not in it: {}. Find out why; if it has to be so, record it: \
         cargo run --release -p windlass-bench -- counts --write",
        GROWTH_MAX * 100.0,
        grown.join(", ")
    ))
}

/// A line for each piece, and the names of those that have grown or are new.
fn report(record: &Record, found: &Record) -> (String, Vec<String>) {
    let mut page = format!("{:<20} {:>10} {:>10} {:>8}\n", "instructions of", "record", "now", "change");
    let mut grown = Vec::new();
    for (name, now) in &found.instructions {
        let recorded = record.instructions.get(name);
        let growth = recorded.map(|recorded| now / recorded - 1.0);
        if growth.is_none_or(|growth| growth > GROWTH_MAX) {
            grown.push(name.clone());
        }
        let recorded = recorded.map_or("-".to_owned(), |count| format!("{count:.0}"));
        let growth = growth.map_or("new".to_owned(), |growth| format!("{:+.1} %", growth * 100.0));
        writeln!(page, "{name:<20} {recorded:>10} {now:>10.0} {growth:>8}").expect("a String takes all");
    }
    (page, grown)
}

fn rustc() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").current_dir(repository()).output().trying("run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or("unknown");
    Ok(format!("rustc {} {}", line("rustc "), line("host: ")))
}

fn per_repetition(valgrind: &Path, pieces: &Path, piece: &str) -> Result<f64> {
    let once = count(valgrind, pieces, piece, REPETITIONS)?;
    let twice = count(valgrind, pieces, piece, 2 * REPETITIONS)?;
    let Some(more) = twice.checked_sub(once).and_then(|more| u32::try_from(more).ok()) else {
        return failed(format!("{piece}: {once} instructions, and with twice the repetitions {twice}"));
    };
    // Kept to a tenth: a record that changes in its last digits says nothing.
    Ok((f64::from(more) / f64::from(REPETITIONS) * 10.0).round() / 10.0)
}

/// Instructions of the whole program.
fn count(valgrind: &Path, pieces: &Path, piece: &str, n: u32) -> Result<u64> {
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(pieces)
        .args([piece, &n.to_string()])
        // The length of the environment moves the stack, and with it what copies have to align.
        .env_clear()
        .output()
        .trying("run valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => failed(format!("callgrind of {piece} {n} says: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(counts: &[(&str, f64)]) -> Record {
        let instructions = counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        Record { rustc: "one".to_owned(), valgrind: "one".to_owned(), instructions }
    }

    #[test]
    fn what_grew_by_more_than_a_twentieth_is_named() {
        let before = record(&[("same", 100.0), ("more", 100.0), ("less", 100.0), ("gone", 5.0)]);
        let now = record(&[("same", 104.9), ("more", 105.1), ("less", 50.0), ("new", 1.0)]);
        let (page, grown) = report(&before, &now);
        assert_eq!(grown, ["more", "new"]);
        assert!(page.contains("-50.0 %"), "{page}");
    }

    #[test]
    fn the_record_in_the_repository_can_be_read_and_knows_every_piece() {
        let record: Record = toml::from_str(&std::fs::read_to_string(path()).unwrap()).unwrap();
        let names: Vec<&str> = record.instructions.keys().map(String::as_str).collect();
        let mut expected: Vec<&str> = PIECES.iter().map(|piece| piece.name).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }
}
