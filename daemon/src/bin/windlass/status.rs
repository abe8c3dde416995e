//! `windlass status`: what runs and waits, against the limits, as tables that people read. Programs take `--json`.

use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;
use windlass_protocol::client::{Address, SUBJECT_STATUS};

use crate::catalogue;
use crate::exit::{Exit, Problem};
use crate::output::{print, print_bytes};
use crate::reading::{ended, number, numbers, percentile, plain};
use crate::units::{bytes, readable, span};

/// What stands where there is nothing to say.
const NOTHING: &str = "-";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the daemon's JSON as it is
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(address: &Address, arguments: &Arguments) -> Result<Exit, Problem> {
    let client = crate::connect(&address.clone().into(), crate::options()).await?;
    if arguments.json {
        let attempted = format!("asking {address} for the status");
        let json = client.query(SUBJECT_STATUS).await;
        print_bytes(&json.map_err(|error| Problem::from_call(&attempted, &error))?)?;
        print(format_args!("\n"))?;
        return Ok(Exit::Done);
    }
    let status = catalogue::json(&client, &address.clone().into(), SUBJECT_STATUS, "the status").await?;
    print(format_args!("{}", page(&status)))?;
    Ok(Exit::Done)
}

/// The whole text. Members that are missing count as nothing.
fn page(status: &Value) -> String {
    let parts = [headline(status), limits(status), workers(status), operations(status), totals(status)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn headline(status: &Value) -> String {
    let up = span(seconds(number(status, "/uptime_seconds")));
    let left = status["state_left_seconds"].as_f64().map(|left| format!(", {left:.0} s left at most"));
    format!(
        "{}  {}{}  up {up}  load {} of 100\n",
        plain(&status["server"]),
        plain(&status["state"]),
        left.unwrap_or_default(),
        number(status, "/load")
    )
}

fn limits(status: &Value) -> String {
    let of = |pointer: &str| number(status, pointer);
    let whole = |pointer: &str| of(pointer).to_string();
    let size = |pointer: &str| bytes(of(pointer));
    let oldest = |pointer: &str| match of(pointer) {
        0.0 => String::new(),
        age => format!("oldest {}", readable(seconds(age))),
    };
    let busy = list(status, "workers").iter().filter(|worker| !worker["running"].is_null()).count();
    let doors = status["connections"]["doors"].as_object();
    let doors: Vec<String> = doors
        .into_iter()
        .flatten()
        .filter(|(_, door)| number(door, "/open") > 0.0)
        .map(|(door, counts)| format!("{door} {}", number(counts, "/open")))
        .collect();
    let mut table = Table::new(["", "now", "limit", ""], &[0, 3]);
    table.row([
        "waiting".into(),
        whole("/queue/waiting"),
        whole("/queue/capacity"),
        oldest("/queue/oldest_waiting_seconds"),
    ]);
    table.row([
        "running".into(),
        busy.to_string(),
        list(status, "workers").len().to_string(),
        oldest("/queue/oldest_running_seconds"),
    ]);
    table.row(["in flight".into(), whole("/in_flight"), NOTHING.into(), String::new()]);
    table.row([
        "held memory".into(),
        size("/queue/held_bytes"),
        size("/queue/held_bytes_max"),
        String::new(),
    ]);
    table.row([
        "work memory".into(),
        size("/cpu_memory/bytes"),
        size("/cpu_memory/bytes_max"),
        String::new(),
    ]);
    table.row([
        "connections".into(),
        whole("/connections/open"),
        whole("/connections/max"),
        doors.join(", "),
    ]);
    table.text()
}

fn workers(status: &Value) -> String {
    let mut table = Table::new(["worker", "runs", "for", "client", "busy", "jobs"], &[0, 1, 3]);
    for worker in list(status, "workers") {
        let running = &worker["running"];
        let (operation, time, client) = match running["operation"].as_str() {
            Some(_) => {
                let time = Duration::from_millis(running["for_ms"].as_u64().unwrap_or(0));
                // A daemon of before says the number of a connection alone.
                let client = running.get("client_name").unwrap_or(&running["client"]);
                (plain(&running["operation"]), readable(time), plain(client))
            }
            None => (NOTHING.into(), NOTHING.into(), NOTHING.into()),
        };
        let busy = readable(seconds(number(worker, "/busy_seconds")));
        let jobs: u64 =
            worker["jobs"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        table.row([plain(&worker["name"]), operation, time, client, busy, jobs.to_string()]);
    }
    table.text()
}

/// What was asked for, with times of all that was served since the start. The last number is what jobs took, against
/// what they were estimated at when they came: 1.00 is right, 2.00 twice as long.
fn operations(status: &Value) -> String {
    let heads =
        ["operation", "done", "failed", "queue p50", "p99", "service p50", "p99", "of estimate", "failures"];
    let mut table = Table::new(heads, &[0, 8]);
    let bounds = numbers(&status["histograms"]["bounds_seconds"]);
    for (operation, outcomes) in status["requests"].as_object().into_iter().flatten() {
        let (done, failed) = ended(status, operation);
        let time = |kind: &str, share| {
            let counts = numbers(&status["histograms"]["operations"][operation][kind]);
            percentile(&counts, &bounds, share).map_or(NOTHING.into(), |time| readable(seconds(time)))
        };
        let failures = outcomes.as_object().into_iter().flatten().filter(|(outcome, _)| *outcome != "done");
        let failures: Vec<String> = failures
            .map(|(outcome, n)| format!("{} {}", plain(&outcome.as_str().into()), plain(n)))
            .collect();
        let of_estimate = status["operations"][operation]["estimate"]["median_ratio"].as_f64();
        table.row([
            plain(&operation.as_str().into()),
            done.to_string(),
            failed.to_string(),
            time("queue", 0.5),
            time("queue", 0.99),
            time("service", 0.5),
            time("service", 0.99),
            of_estimate.map_or(NOTHING.into(), |ratio| format!("{ratio:.2}")),
            failures.join(", "),
        ]);
    }
    table.text()
}

/// Counters since the start; those of what should not happen only when it has.
fn totals(status: &Value) -> String {
    let mut text = String::from("since the start  ");
    let always = [
        format!("{} connections accepted", number(status, "/connections/accepted")),
        format!("{} read", bytes(number(status, "/bytes/in"))),
        format!("{} written", bytes(number(status, "/bytes/out"))),
    ];
    let seldom = [
        ("/connections/refused", "connections refused"),
        ("/connections/accept_errors", "accept errors"),
        ("/connections/protocol_errors", "protocol errors"),
        ("/panics", "panics"),
        ("/listener_restarts", "listener restarts"),
        ("/reloads", "reloads"),
    ];
    let seldom = seldom.iter().filter(|(pointer, _)| number(status, pointer) > 0.0);
    let seldom = seldom.map(|(pointer, words)| format!("{} {words}", number(status, pointer)));
    text.push_str(&always.into_iter().chain(seldom).collect::<Vec<_>>().join(", "));
    text.push('\n');
    text
}

fn list<'a>(status: &'a Value, member: &str) -> &'a [Value] {
    status[member].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

/// Columns as wide as their widest cell; numbers end below each other.
struct Table<const N: usize> {
    rows: Vec<[String; N]>,
    /// Columns of words, which begin below each other instead.
    words: &'static [usize],
}

impl<const N: usize> Table<N> {
    fn new(heads: [&str; N], words: &'static [usize]) -> Self {
        Self { rows: vec![heads.map(str::to_owned)], words }
    }

    fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// Nothing where there are no rows below the heads.
    fn text(&self) -> String {
        let mut text = String::new();
        if self.rows.len() == 1 {
            return text;
        }
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; N] = std::array::from_fn(width);
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let _infallible = match self.words.contains(&column) {
                    true => write!(line, "{cell:<width$}  "),
                    false => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_tables_whose_columns_stand_below_each_other() {
        let status = serde_json::json!({
            "server": "windlassd/0.1.0\u{1b}[2J", "state": "draining", "state_left_seconds": 12.2, "load": 37,
            "uptime_seconds": 3725.0, "in_flight": 3, "panics": 1,
            "queue": { "waiting": 2, "capacity": 16384, "held_bytes": 1536, "held_bytes_max": 536_870_912,
                       "oldest_waiting_seconds": 1.5, "oldest_running_seconds": 0.0 },
            "cpu_memory": { "bytes": 0, "bytes_max": 1 << 30 },
            "connections": { "open": 1, "max": 100, "accepted": 7,
                             "doors": { "tcp": { "open": 1 }, "http": { "open": 0 } } },
            "workers": [
                { "name": "windlass-cpu-0", "running": { "operation": "spin", "for_ms": 1500, "client": 3, "client_name": "connection 3" },
                  "busy_seconds": 3.25, "jobs": { "spin": 1, "hash": 11 } },
                { "name": "windlass-cpu-1", "running": null, "busy_seconds": 0.0, "jobs": {} },
            ],
            "requests": { "hash": { "done": 10, "invalid_input": 1 }, "spin": {} },
            "operations": { "hash": { "estimate": { "measured": 10, "median_ratio": 0.841 } } },
            "bytes": { "in": 3, "out": 2048 },
            "histograms": { "bounds_seconds": [0.001, 0.01],
                            "operations": { "hash": { "queue": [10, 0, 0], "service": [0, 10, 0] } } },
        });
        let expected = "\
windlassd/0.1.0[2J  draining, 12 s left at most  up 1 h 2 min  load 37 of 100

                 now    limit
waiting            2    16384  oldest 1.50 s
running            1        2
in flight          3        -
held memory  1.5 KiB  512 MiB
work memory      0 B  1.0 GiB
connections        1      100  tcp 1

worker          runs     for  client          busy  jobs
windlass-cpu-0  spin  1.50 s  connection 3  3.25 s    12
windlass-cpu-1  -          -  -             0.0 µs     0

operation  done  failed  queue p50       p99  service p50      p99  of estimate  failures
hash         10       1   500.0 µs  990.0 µs      5.50 ms  9.91 ms         0.84  invalid_input 1
spin          0       0          -         -            -        -            -

since the start  7 connections accepted, 3 B read, 2 KiB written, 1 panics
";
        assert_eq!(page(&status), expected);
    }

    #[test]
    fn a_status_that_says_nothing_is_shown_all_the_same() {
        assert!(page(&Value::Null).contains("waiting"));
    }
}
