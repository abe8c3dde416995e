//! The run: every row, its contestants in turn A B C … A B C …, and what is written about it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::figures::{Measured, Row, Score};
use crate::programs::{self, repository, version};
use crate::rows::{self, Bench};
use crate::trouble::{Attempt, Result, failed};
use crate::work::{Work, calibrate};
use crate::{plot, report};

/// Descriptors that the load generator keeps for other things than connections.
const DESCRIPTORS_SPARED: u64 = 1500;

/// Connections of the rows about many of them.
const MANY: u64 = 18_500;

/// What was asked for.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// How often each contestant of a row is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// How long a simple measurement takes; those of rare events take up to ten times as long
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Only these rows
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    rows: Vec<String>,
    /// Only these contestants, to see what a change gives; targets against others are left out
    #[arg(long, value_delimiter = ',', value_name = "NAME,NAME")]
    only: Vec<String>,
    /// Where results.json and plots/ are written
    #[arg(long, value_name = "DIR", default_value_os_t = default_out())]
    out: PathBuf,
    /// List the rows and end
    #[arg(long)]
    list: bool,
    /// A look, not a measurement: 2 rounds of 0.4 seconds, one for what takes long
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
}

fn default_out() -> PathBuf {
    repository().join("tests/bench")
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let rows = chosen(arguments)?;
    if arguments.list {
        rows.iter().for_each(|row| println!("{:<16} {}", row.name, row.title));
        return Ok(ExitCode::SUCCESS);
    }
    let many = raise_descriptors()?;
    let (rounds, seconds) =
        if arguments.quick { (2, 0.4) } else { (usize::from(arguments.rounds), arguments.seconds) };
    if !(0.05..=600.0).contains(&seconds) {
        return failed(format!("cannot measure for {seconds} seconds: between 0.05 and 600 is possible"));
    }
    // Before anything is measured, so that no row waits for the compiler.
    programs::windlassd()?;
    let iterations = calibrate(Duration::from_millis(5));
    let bench = Bench {
        unit: Duration::from_secs_f64(seconds),
        burn: Work::burn(iterations),
        settle: Duration::from_secs(if arguments.quick { 1 } else { 12 }),
        many,
    };
    let began = Instant::now();
    println!("{}", about(&bench, rounds));
    if is_busy() {
        println!("THIS MACHINE IS BUSY with something else: the ratios below are wrong; see NOTES.md");
    }
    let mut results = Vec::new();
    for row in &rows {
        // What takes long is looked at once in a quick run.
        let rounds_max = if arguments.quick && row.rounds_max < usize::MAX { 1 } else { row.rounds_max };
        let rounds = rounds.min(rounds_max);
        let row_began = Instant::now();
        let measured = measure(row, &bench, rounds);
        print!("{}", report::table(row, &measured));
        println!("  rounds: {rounds}, in {} s", row_began.elapsed().as_secs());
        results.push(report::machine(row, &measured));
        keep(arguments, row, &measured)?;
    }
    let kept = json!({
        "about": about(&bench, rounds), "rounds": rounds, "seconds": seconds, "quick": arguments.quick,
        "took_seconds": began.elapsed().as_secs(), "rows": results,
    });
    let path = arguments.out.join("results.json");
    let text = serde_json::to_string_pretty(&kept).trying("write the results as JSON")?;
    std::fs::write(&path, text + "\n").trying(format!("write {}", path.display()))?;
    println!("\n{} s; kept in {}", began.elapsed().as_secs(), path.display());
    Ok(ExitCode::SUCCESS)
}

fn chosen(arguments: &Arguments) -> Result<Vec<Row>> {
    let rows = rows::all();
    let unknown = arguments.rows.iter().find(|name| rows.iter().all(|row| row.name != **name));
    if let Some(name) = unknown {
        return failed(format!("there is no row '{name}'; --list names them all"));
    }
    let is_asked =
        |row: &Row| arguments.rows.is_empty() || arguments.rows.iter().any(|name| name == row.name);
    let mut rows: Vec<Row> = rows.into_iter().filter(is_asked).collect();
    if !arguments.only.is_empty() {
        for row in &mut rows {
            row.contestants.retain(|contestant| arguments.only.iter().any(|name| name == contestant.name));
        }
    }
    Ok(rows)
}

fn measure(row: &Row, bench: &Bench, rounds: usize) -> Measured {
    let scores = row.contestants.iter().map(|contestant| (contestant.name, Score::default())).collect();
    let mut measured = Measured { scores };
    for round in 1..=rounds {
        for (contestant, (_, score)) in row.contestants.iter().zip(&mut measured.scores) {
            if score.trouble.is_some() {
                continue;
            }
            eprint!("\r\x1b[K{} {round}/{rounds} {}", row.name, contestant.name);
            match (contestant.measure)(bench) {
                Ok(sample) => score.add(sample),
                Err(trouble) => score.trouble = Some(trouble.to_string()),
            }
        }
    }
    eprint!("\r\x1b[K");
    measured
}

fn keep(arguments: &Arguments, row: &Row, measured: &Measured) -> Result<()> {
    let folder = arguments.out.join("plots");
    std::fs::create_dir_all(&folder).trying(format!("make {}", folder.display()))?;
    let Some(picture) = plot::svg(row, measured) else { return Ok(()) };
    let path = folder.join(format!("{}.svg", row.name));
    std::fs::write(&path, picture).trying(format!("write {}", path.display()))
}

/// Descriptors up to the hard limit, here and in the servers started from here; how many connections they allow.
fn raise_descriptors() -> Result<usize> {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })
        .trying("raise the descriptor limit")?;
    let many = hard.map_or(MANY, |hard| hard.saturating_sub(DESCRIPTORS_SPARED)).min(MANY);
    usize::try_from(many).trying("count connections")
}

/// Whether others have been computing in the last minute, by the machine's load average.
fn is_busy() -> bool {
    /// Runnable threads that a machine has which does nothing else.
    const LOAD_MAX: f64 = 0.7;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace()
        .next()
        .and_then(|load| load.parse::<f64>().ok())
        .is_some_and(|load| load > LOAD_MAX)
}

/// Where and how it was measured.
fn about(bench: &Bench, rounds: usize) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let commit =
        Command::new("git").args(["rev-parse", "--short", "HEAD"]).current_dir(repository()).output();
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let tool = |program: &str, argument: &str| version(std::path::Path::new(program), argument);
    format!(
        "Windlass {} · {cores} × {} · Linux {} · load before {}\n{} · {} · {} · {}\n\
         {rounds} rounds of {:?}; the load generator shares the cores, so that only ratios within this run count; \
         a job of 5 ms is {}; {} descriptors bound the rows about many connections to {}",
        commit.as_deref().unwrap_or("unknown"),
        model.map_or("unknown", |(_, model)| model),
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split_whitespace().next().unwrap_or("unknown"),
        tool("rustc", "--version"),
        tool("redis-server", "--version"),
        tool("/usr/sbin/gearmand", "--version"),
        tool("/usr/sbin/nginx", "-v"),
        bench.unit,
        bench.burn.name(),
        getrlimit(Resource::Nofile).current.map_or("unlimited".to_owned(), |limit| limit.to_string()),
        bench.many,
    )
}
