//! `windlass call`: an operation on files or standard input.

mod input;
mod place;

use std::collections::VecDeque;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{Addresses, Request, Response, Retry};

use self::input::Input;
use self::place::Place;
use crate::catalogue::{Catalogue, Operation};
use crate::exit::{Exit, Problem};
use crate::output::{is_printable, print_bytes, write_whole};
use crate::{Persistence, PriorityArgument, key_value, units};

/// Inputs that are read, sent or waiting to be printed at a time; bounds the memory to as many bodies and results.
const IN_FLIGHT_MAX: usize = 4;

/// Work longer than this shows its progress.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Name of the operation; 'windlass operations' lists them
    operation: String,
    /// Inputs; standard input without any, or for -
    files: Vec<PathBuf>,
    /// A parameter of the operation
    #[arg(short = 'p', long = "parameter", value_name = "KEY=VALUE", value_parser = key_value)]
    parameters: Vec<(String, String)>,
    /// Write the result to this file instead of standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "output_dir")]
    output: Option<PathBuf>,
    /// Write one result per input into this directory, under the input's name
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// How long a result is wanted; the daemon's default without it
    #[arg(long, value_parser = units::duration)]
    deadline: Option<Duration>,
    /// Whether somebody waits for the result
    #[arg(long, value_enum, default_value = "interactive")]
    priority: PriorityArgument,
    #[command(flatten)]
    persistence: Persistence,
}

/// What became of one input.
struct Done {
    input: Input,
    result: Result<Response, Problem>,
}

pub(crate) async fn run(addresses: &Addresses, arguments: Arguments) -> Result<Exit, Problem> {
    let inputs = Input::all(&arguments.files);
    let client = crate::connect(addresses, arguments.persistence.options()).await?;
    let catalogue = Catalogue::fetch(&client, addresses).await?;
    let operation = catalogue.find(&arguments.operation)?;
    let is_text = operation.is_text(&arguments.parameters);
    let place = Place::choose(&arguments, &operation, &inputs, is_text)?;
    let request = request(&arguments, &operation);
    let body_bytes_max = client
        .terms()
        .await
        .map_err(|error| Problem::from_call(&format!("connecting to {addresses}"), &error))?
        .body_bytes_max;
    let bar = progress(inputs.len());

    let mut printer = Printer { place, is_text, lines: Vec::new(), first_failure: None };
    let mut running: VecDeque<JoinHandle<Done>> = VecDeque::new();
    let mut waiting = inputs.into_iter();
    loop {
        while running.len() < IN_FLIGHT_MAX {
            let Some(input) = waiting.next() else { break };
            running.push_back(tokio::spawn(process(client.clone(), request.clone(), input, body_bytes_max)));
        }
        let Some(next) = running.pop_front() else { break };
        let done =
            next.await.map_err(|error| Problem::new(Exit::Internal, format!("a call ended: {error}")))?;
        bar.suspend(|| printer.take(&done))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    printer.finish()?;
    // The results are there; how the connection ends changes nothing.
    let _totals = client.close().await;
    Ok(printer.first_failure.unwrap_or(Exit::Done))
}

fn request(arguments: &Arguments, operation: &Operation<'_>) -> Request {
    let mut request = Request::new(&arguments.operation).priority(arguments.priority.into());
    request.parameters.clone_from(&arguments.parameters);
    request.deadline = arguments.deadline;
    request.retry = match operation.is_pure() {
        _ if arguments.persistence.no_retry => Retry::Never,
        true => Retry::Pure,
        false => Retry::Safe,
    };
    request
}

async fn process(client: Client, request: Request, input: Input, body_bytes_max: u64) -> Done {
    let result = match input.read(body_bytes_max) {
        Ok(body) => {
            let request = request.body(body);
            let attempted = || format!("{} of {}", request.operation, input.shown());
            client.call(&request).await.map_err(|error| Problem::from_call(&attempted(), &error))
        }
        Err(problem) => Err(problem),
    };
    Done { input, result }
}

/// A bar that appears only once the work is long, and only for somebody who sees it.
fn progress(inputs: usize) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(inputs as u64), ProgressDrawTarget::hidden());
    if io::stderr().is_terminal() {
        let style = if inputs > 1 { "{wide_bar} {pos}/{len} {elapsed}" } else { "{spinner} {elapsed}" };
        bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant"));
        let shown = bar.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PROGRESS_AFTER).await;
            if !shown.is_finished() {
                shown.set_draw_target(ProgressDrawTarget::stderr());
                shown.enable_steady_tick(Duration::from_millis(100));
            }
        });
    }
    bar
}

/// Puts results where they belong, in the order of the inputs.
struct Printer {
    place: Place,
    is_text: bool,
    /// Text for [`Place::File`], which is written whole at the end.
    lines: Vec<u8>,
    first_failure: Option<Exit>,
}

impl Printer {
    /// One failed input does not stop the others; output that cannot be written does.
    fn take(&mut self, done: &Done) -> Result<(), Problem> {
        match &done.result {
            Ok(response) => self.put(&done.input, &response.body),
            Err(problem) => {
                let exit = problem.report();
                self.first_failure.get_or_insert(exit);
                Ok(())
            }
        }
    }

    fn put(&mut self, input: &Input, result: &[u8]) -> Result<(), Problem> {
        match &self.place {
            Place::Directory(directory) => write_whole(&directory.path_of(input), result),
            Place::File(path) if !self.is_text => write_whole(path, result),
            Place::File(_) => {
                self.lines.extend_from_slice(&input.line(result));
                Ok(())
            }
            Place::StandardOutput if self.is_text => print_bytes(&input.line(result)),
            Place::StandardOutput if io::stdout().is_terminal() && !is_printable(result) => {
                Err(Problem::new(
                    Exit::Usage,
                    format!(
                        "the result of {} is {} bytes that are no text, and standard output is a terminal; \
                     name a file with -o or redirect it",
                        input.shown(),
                        result.len()
                    ),
                ))
            }
            Place::StandardOutput => print_bytes(result),
        }
    }

    fn finish(&mut self) -> Result<(), Problem> {
        match &self.place {
            Place::File(path) if self.is_text && !self.lines.is_empty() => write_whole(path, &self.lines),
            _ => Ok(()),
        }
    }
}
