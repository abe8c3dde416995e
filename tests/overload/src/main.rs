//! `windlass-overload`: asks real daemons for more than they can do, and prints what became of it beside what was
//! promised. It measures and asserts nothing: the machine it runs on is its own load generator, and may have others.
//!
//! Loads are open loops: requests are due at times that were drawn before the first was sent, and each one's latency
//! counts from when it was due, so that a daemon that stalls cannot hide what it kept from being sent (coordinated
//! omission; Tene, *How NOT to Measure Latency*, 2013).

#![allow(clippy::print_stdout, reason = "printing is what this program is for")]
#![allow(clippy::print_stderr, reason = "printing is what this program is for")]

mod arrivals;
mod figure;
mod load;
mod numbers;
mod plot;
mod process;
mod scenarios;
mod server;
mod trouble;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::figure::{Figure, print_figures};
use crate::scenarios::Size;
use crate::trouble::Trouble;

/// Asks real daemons for more than they can do, and prints what became of it beside what was promised.
#[derive(Parser)]
#[command(name = "windlass-overload", version)]
struct Arguments {
    /// What to run; everything without any
    scenarios: Vec<Scenario>,
    /// Shorter loads and fewer clients: everything within two minutes, with more noise
    #[arg(long)]
    quick: bool,
    /// Where results.json and goodput.svg go
    #[arg(long, value_name = "DIR", default_value = "target/overload")]
    out: PathBuf,
}

/// One group of figures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Scenario {
    /// Whether estimates come near what jobs take
    Estimates,
    /// What is done in time when more and more is asked, and what the rest is told
    Goodput,
    /// Work for answers that nobody got
    Waste,
    /// Who waits for whom
    Fairness,
    /// What many large requests take, and give back
    Memory,
    /// How soon the workers are free of clients that are gone
    Leaving,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("windlass-overload: {trouble}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Trouble> {
    process::raise_descriptors()
        .map_err(|error| Trouble::io("raising the limit of descriptors for many connections", error))?;
    eprintln!("building windlassd, where it is not up to date");
    server::build()?;
    let size = if arguments.quick { Size::Quick } else { Size::Full };
    let chosen = match arguments.scenarios.as_slice() {
        [] => Scenario::value_variants(),
        chosen => chosen,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::io("starting the runtime", error))?;
    let began = Instant::now();
    let mut results = serde_json::Map::new();
    for scenario in chosen {
        let name = scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        println!("\n{name}");
        let (began, cpu) = (Instant::now(), process::cpu_time(std::process::id()));
        let figures = LocalSet::new().block_on(&runtime, one(*scenario, size, arguments))?;
        print_figures(&figures);
        let (took, used) = (began.elapsed(), process::cpu_time(std::process::id()).saturating_sub(cpu));
        println!("  (took {:.1} s, {:.1} s of CPU of this program)", took.as_secs_f64(), used.as_secs_f64());
        results.insert(name, outcome(&figures, took, used));
    }
    let path = arguments.out.join("results.json");
    let machine = json!({
        "cores": std::thread::available_parallelism().map_or(1, usize::from),
        "quick": arguments.quick,
        "seconds": began.elapsed().as_secs_f64(),
        "scenarios": results,
    });
    write(&path, &format!("{machine:#}\n"))?;
    println!("\n{} written after {:.0} s", path.display(), began.elapsed().as_secs_f64());
    Ok(())
}

async fn one(scenario: Scenario, size: Size, arguments: &Arguments) -> Result<Vec<Figure>, Trouble> {
    match scenario {
        Scenario::Estimates => scenarios::estimates::run(size).await,
        Scenario::Goodput => {
            let (figures, curves) = scenarios::goodput::run(size).await?;
            let path = arguments.out.join("goodput.svg");
            write(&path, &plot::goodput(&curves))?;
            Ok(figures)
        }
        Scenario::Waste => scenarios::waste::run(size).await,
        Scenario::Fairness => scenarios::fairness::run(size).await,
        Scenario::Memory => scenarios::memory::run(size).await,
        Scenario::Leaving => scenarios::leaving::run(size).await,
    }
}

fn outcome(figures: &[Figure], took: Duration, used: Duration) -> Value {
    json!({
        "figures": figures.iter().map(Figure::json).collect::<Vec<_>>(),
        "seconds": took.as_secs_f64(),
        "generator_cpu_seconds": used.as_secs_f64(),
    })
}

fn write(path: &std::path::Path, text: &str) -> Result<(), Trouble> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| Trouble::io(&format!("writing {}", path.display()), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }
}
