//! `windlass bench`: a load generator.
//!
//! Closed loop: every connection keeps `--pipeline` requests in flight. Open loop (`--rate`): requests are due at
//! fixed times, and each one's latency counts from when it was due, so that a daemon that stalls cannot hide the
//! requests it kept from being sent (coordinated omission).

mod drive;
mod pacer;
mod report;
mod tally;

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Duration;

use windlass_protocol::client::{Address, Request, Retry};

use self::tally::Tally;
use crate::exit::{Exit, Problem};
use crate::{PriorityArgument, key_value, units};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name of the operation; 'windlass operations' lists them
    operation: String,
    /// A parameter of the operation
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE", value_parser = key_value)]
    parameters: Vec<(String, String)>,
    /// Length of each input, of bytes that do not compress
    #[arg(long, default_value = "64B", value_parser = units::size, conflicts_with = "input")]
    size: u64,
    /// Send this file as every input
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Connections
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Most requests in flight on each connection [default: 1, or as many as the daemon allows with --rate]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pipeline: Option<u16>,
    /// Open loop: requests per second over all connections
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// How long to send
    #[arg(long, default_value = "10s", value_parser = units::duration)]
    duration: Duration,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// How long each result is wanted; the daemon's default without it
    #[arg(long, value_parser = units::duration)]
    deadline: Option<Duration>,
    /// Whether somebody waits for the results
    #[arg(long, value_enum, default_value = "interactive")]
    priority: PriorityArgument,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What every thread and connection does.
pub(crate) struct Plan {
    address: Address,
    request: Request,
    connections: u32,
    pipeline: Option<u16>,
    rate: Option<u32>,
    duration: Duration,
    threads: u32,
}

pub(crate) async fn run(address: &Address, arguments: Arguments) -> Result<Exit, Problem> {
    let body = match &arguments.input {
        Some(path) => std::fs::read(path)
            .map_err(|error| Problem::new(Exit::BadInput, format!("reading {}: {error}", path.display())))?,
        None => noise(arguments.size),
    };
    let mut request =
        Request::new(&arguments.operation).body(body).priority(arguments.priority.into()).retry(Retry::Never);
    request.parameters.clone_from(&arguments.parameters);
    request.deadline = arguments.deadline;
    let plan = Plan {
        address: address.clone(),
        request,
        connections: arguments.connections,
        pipeline: arguments.pipeline,
        rate: arguments.rate,
        duration: arguments.duration,
        threads: u32::from(arguments.threads).min(arguments.connections),
    };
    let tally = measure(&plan)?;
    report::print(&plan, &tally, arguments.json)?;
    Ok(exit(&tally))
}

/// Runs every thread and adds up what they saw.
fn measure(plan: &Plan) -> Result<Tally, Problem> {
    let ready = Barrier::new(plan.threads as usize);
    let results: Vec<Result<Tally, Problem>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..plan.threads)
            .map(|thread| {
                let ready = &ready;
                scope.spawn(move || drive::thread(plan, thread, ready))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a load thread does not panic")).collect()
    });
    let mut total = Tally::new();
    for result in results {
        total.add(&result?);
    }
    Ok(total)
}

/// A load that was served in part is a measurement; one that was not served at all is a failure.
fn exit(tally: &Tally) -> Exit {
    match (tally.replies, tally.failures.keys().next()) {
        (0, Some(code)) => Exit::of_code(*code),
        (0, None) if tally.broken == 0 => Exit::Deadline,
        (0, None) => Exit::Unreachable,
        _ => Exit::Done,
    }
}

/// Bytes that no compressor makes smaller and that are the same in every run (xorshift64, Marsaglia 2003).
fn noise(length: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}
