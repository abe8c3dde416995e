//! `windlass`: talks to a Windlass daemon from a terminal or a script.

mod bench;
mod call;
mod catalogue;
mod exit;
#[cfg(feature = "generate")]
#[path = "../../generate.rs"]
mod generate;
mod operations;
mod output;
mod ping;
mod reading;
mod status;
mod top;
mod units;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{Address, Addresses, Options, Priority};

use crate::exit::{Exit, Problem};

/// Hands work to a Windlass daemon and prints what comes back.
#[derive(Parser)]
#[command(name = "windlass", version, after_help = exit::HELP)]
struct Arguments {
    /// Where the daemon listens: tcp://HOST:PORT or unix:///PATH; several daemons that can do the same with commas, or
    /// each with an --address of its own
    #[arg(
        long = "address",
        value_name = "ADDRESS",
        env = "WINDLASS_ADDRESS",
        default_value = "tcp://127.0.0.1:7410",
        value_delimiter = ',',
        global = true
    )]
    addresses: Vec<Address>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure round trips through the daemon's I/O side alone
    Ping(ping::Arguments),
    /// List what the daemon can do
    Operations(operations::Arguments),
    /// Run an operation on files or standard input
    Call(call::Arguments),
    /// Measure throughput and latency of an operation
    Bench(bench::Arguments),
    /// Show what runs and waits
    Status(status::Arguments),
    /// Show it live
    Top(top::Arguments),
}

/// How urgent a request is.
#[derive(Clone, Copy, ValueEnum)]
enum PriorityArgument {
    /// Somebody waits for it
    Interactive,
    /// It may wait behind interactive requests
    Batch,
}

impl From<PriorityArgument> for Priority {
    fn from(argument: PriorityArgument) -> Self {
        match argument {
            PriorityArgument::Interactive => Self::Interactive,
            PriorityArgument::Batch => Self::Batch,
        }
    }
}

/// Reads `KEY=VALUE`; the value may be empty and may contain more of `=`.
fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE, as in algorithm=sha256".to_owned()),
    }
}

/// What is done when a daemon is busy or gone.
#[derive(clap::Args)]
struct Persistence {
    /// How often to try again what a daemon was too busy for or certainly did not start, as soon as it says, within the
    /// deadline
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=1000))]
    retries: u32,
    /// Never try again
    #[arg(long, conflicts_with = "retries")]
    no_retry: bool,
}

impl Persistence {
    /// The budget lets one call have all the attempts that were asked for.
    fn options(&self) -> Options {
        let retries = if self.no_retry { 0 } else { self.retries };
        let mut options = options();
        options.attempts_max = retries + 1;
        options.retry_budget.burst = options.retry_budget.burst.max(retries);
        options
    }
}

fn options() -> Options {
    Options::named(concat!("windlass ", env!("CARGO_PKG_VERSION")))
}

async fn connect(addresses: &Addresses, options: Options) -> Result<Client, Problem> {
    Client::connect(addresses.clone(), options)
        .await
        .map_err(|error| Problem::from_call(&format!("connecting to {addresses}"), &error))
}

/// The address of a command that speaks of one daemon.
fn only<'a>(addresses: &'a Addresses, command: &str) -> Result<&'a Address, Problem> {
    addresses.only().ok_or_else(|| {
        let message =
            format!("{command} is about one daemon, and {addresses} are several; name one with --address");
        Problem::new(Exit::Usage, message)
    })
}

fn main() -> ExitCode {
    #[cfg(feature = "generate")]
    if let Some(done) = generate::asked_for::<Arguments>("1") {
        return done;
    }
    let arguments = Arguments::parse();
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(Problem::new(Exit::Internal, format!("cannot start the I/O runtime: {error}"))),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(problem) => problem.report().into(),
    }
}

async fn run(arguments: Arguments) -> Result<Exit, Problem> {
    let addresses = &Addresses::new(arguments.addresses)
        .map_err(|error| Problem::new(Exit::Usage, format!("--address: {error}")))?;
    match arguments.command {
        Command::Ping(arguments) => ping::run(addresses, &arguments).await,
        Command::Operations(arguments) => operations::run(addresses, &arguments).await,
        Command::Call(arguments) => call::run(addresses, arguments).await,
        Command::Bench(arguments) => bench::run(only(addresses, "bench")?, arguments).await,
        Command::Status(arguments) => status::run(only(addresses, "status")?, &arguments).await,
        Command::Top(arguments) => top::run(only(addresses, "top")?, &arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn addresses_are_given_together_or_one_by_one() {
        let addresses = |arguments: &[&str]| {
            let all = ["windlass"].iter().chain(arguments).chain(&["ping"]);
            Addresses::new(Arguments::try_parse_from(all).unwrap().addresses).unwrap().to_string()
        };
        assert_eq!(addresses(&["--address", "tcp://a:1,unix:///b"]), "tcp://a:1,unix:///b");
        assert_eq!(addresses(&["--address", "tcp://a:1", "--address", "tcp://b:2"]), "tcp://a:1,tcp://b:2");
    }

    #[test]
    fn a_parameter_keeps_everything_after_its_first_equals_sign() {
        assert_eq!(key_value("hash=$a$v=19").unwrap(), ("hash".to_owned(), "$a$v=19".to_owned()));
        assert_eq!(key_value("k=").unwrap(), ("k".to_owned(), String::new()));
        assert!(key_value("=v").is_err());
        assert!(key_value("k").is_err());
    }
}
