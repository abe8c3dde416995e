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
use windlass_protocol::client::{Address, Options, Priority};

use crate::exit::{Exit, Problem};

/// Hands work to a Windlass daemon and prints what comes back.
#[derive(Parser)]
#[command(name = "windlass", version, after_help = exit::HELP)]
struct Arguments {
    /// Where the daemon listens: tcp://HOST:PORT or unix:///PATH
    #[arg(long, env = "WINDLASS_ADDRESS", default_value = "tcp://127.0.0.1:7410", global = true)]
    address: Address,
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

fn options() -> Options {
    Options::named(concat!("windlass ", env!("CARGO_PKG_VERSION")))
}

async fn connect(address: &Address) -> Result<Client, Problem> {
    Client::connect(address.clone(), options())
        .await
        .map_err(|error| Problem::from_call(&format!("connecting to {address}"), &error))
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
    let address = &arguments.address;
    match arguments.command {
        Command::Ping(arguments) => ping::run(address, &arguments).await,
        Command::Operations(arguments) => operations::run(address, &arguments).await,
        Command::Call(arguments) => call::run(address, arguments).await,
        Command::Bench(arguments) => bench::run(address, arguments).await,
        Command::Status(arguments) => status::run(address, &arguments).await,
        Command::Top(arguments) => top::run(address, &arguments).await,
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
    fn a_parameter_keeps_everything_after_its_first_equals_sign() {
        assert_eq!(key_value("hash=$a$v=19").unwrap(), ("hash".to_owned(), "$a$v=19".to_owned()));
        assert_eq!(key_value("k=").unwrap(), ("k".to_owned(), String::new()));
        assert!(key_value("=v").is_err());
        assert!(key_value("k").is_err());
    }
}
