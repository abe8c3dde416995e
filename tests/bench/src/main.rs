//! Windlass beside what people would pick instead, with one load generator, in one run:
//!
//! ```sh
//! cargo run --release -p windlass-bench
//! ```
//!
//! Servers are started one at a time on free ports of loopback, with their defaults, and measured in turn
//! A B C … A B C …; what is not there is installed from Debian when that may be done, and skipped with a word
//! otherwise. Printed are medians with their spread, and the ratio to the peer beside what was to be reached. It never
//! asserts a time. `results.json` and `plots/` keep what was found. `--list` names the rows, `--rows NAME,NAME` picks
//! some, `--quick` gives a first look within minutes.
//!
//! `windlass-bench counts` counts instructions instead, which are the same on a busy machine; see `counts`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

mod counts;
mod figures;
mod load;
mod peers;
mod plot;
mod process;
mod programs;
mod report;
mod rows;
mod run;
mod serve;
mod trouble;
mod work;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::net::TcpListener;

use crate::serve::{Answering, Handlers};
use crate::trouble::{Attempt, Result};

/// Measures Windlass beside what people would pick instead
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    task: Option<Task>,
    #[command(flatten)]
    run: run::Arguments,
}

#[derive(Subcommand)]
enum Task {
    /// Count the instructions of the pieces and compare them with the record
    Counts {
        /// Write the record instead
        #[arg(long)]
        write: bool,
    },
    #[command(hide = true)]
    ServeAxum {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        handlers: Handlers,
    },
    #[command(hide = true)]
    ServeFrames {
        #[arg(long)]
        port: u16,
        #[arg(long)]
        answering: Answering,
    },
    #[command(hide = true)]
    GearmanWorker {
        #[arg(long)]
        port: u16,
        #[arg(long, value_delimiter = ',')]
        functions: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match arguments.task {
        None => run::run(&arguments.run),
        Some(Task::Counts { write: false }) => counts::run(counts::Task::Compare),
        Some(Task::Counts { write: true }) => counts::run(counts::Task::Write),
        Some(Task::ServeAxum { port, handlers }) => {
            serve_on(port, |listener| serve::serve_axum(listener, handlers))
        }
        Some(Task::ServeFrames { port, answering }) => {
            serve_on(port, |listener| serve::serve_frames(listener, answering))
        }
        // It works until the server is gone, which is how it is meant to end.
        Some(Task::GearmanWorker { port, functions }) => {
            serve::gearman_work(port, &functions).map(|()| ExitCode::SUCCESS).trying("work for gearmand")
        }
    };
    ended.unwrap_or_else(|trouble| {
        eprintln!("windlass-bench: {trouble}");
        ExitCode::FAILURE
    })
}

/// Serves on a runtime as `#[tokio::main]` makes it.
fn serve_on<F: Future<Output = io::Result<()>>>(
    port: u16,
    serve: impl FnOnce(TcpListener) -> F,
) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().trying("start tokio")?;
    runtime.block_on(async {
        let listener = listen(port).trying(format!("listen on port {port}"))?;
        serve(listener).await.trying("serve")?;
        Ok(ExitCode::SUCCESS)
    })
}

/// With a backlog that many connections at a time do not overflow.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    socket.listen(4096)
}
