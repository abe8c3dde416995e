//! The trivial request, through a worker: what the hop itself costs.

use std::time::Duration;

use super::{Bench, CLIENT, RATE, contestant, goal, must, native, target, throughput};
use crate::figures::{Against, Contestant, Figure, Row, Sample, Sense};
use crate::load::{Address, Frames, Gearman, Http, Pace, Protocol, Resp, Shape, closed_loop, noise, paced};
use crate::peers::{axum, frames, gearmand, redis, windlassd};
use crate::serve::{Answering, Handlers};
use crate::trouble::Result;
use crate::work::Work;

/// Connections of a busy application.
const CONNECTIONS: usize = 50;

fn small() -> Vec<u8> {
    noise(64)
}

pub(super) fn rows() -> Vec<Row> {
    vec![one_by_one(), pipelined(), http(), alone()]
}

fn shape(bench: &Bench, in_flight: usize) -> Shape {
    Shape::new(CONNECTIONS, in_flight, bench.unit)
}

/// Contestants whose protocols carry several requests at a time.
fn of_native_protocols(in_flight: usize) -> Vec<Contestant> {
    vec![
        contestant("redis", move |bench| {
            throughput(&Resp::echo(small()), &redis()?.tcp(), shape(bench, in_flight))
        }),
        contestant("tokio+rayon", move |bench| {
            let server = frames(Answering::Echo)?;
            throughput(&Frames::echo(small()), &server.tcp(), shape(bench, in_flight))
        }),
        contestant("gearmand", move |bench| {
            let server = gearmand(&["echo", "echo"])?;
            throughput(&Gearman::job("echo", small()), &server.tcp(), shape(bench, in_flight))
        }),
        contestant("windlass", move |bench| {
            throughput(&native(Work::Echo, small()), &windlassd(&[])?.tcp(), shape(bench, in_flight))
        }),
    ]
}

fn axum_echo(bench: &Bench, handlers: Handlers) -> Result<Sample> {
    throughput(&Http::post("/echo", small()), &axum(handlers)?.tcp(), shape(bench, 1))
}

fn one_by_one() -> Row {
    let mut contestants = of_native_protocols(1);
    contestants.insert(1, contestant("axum+rayon", |bench| axum_echo(bench, Handlers::Rayon)));
    Row {
        name: "echo-50x1",
        title: "echo of 64 B through a worker, 50 connections, one request at a time",
        figures: &[RATE, CLIENT],
        contestants,
        targets: vec![
            must("windlass", "rate", Sense::AtLeast, Against::Peer("redis", 0.85)),
            goal("windlass", "rate", Sense::AtLeast, Against::Peer("redis", 1.0)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn pipelined() -> Row {
    Row {
        name: "echo-50x16",
        title: "echo of 64 B through a worker, 50 connections, 16 requests in flight on each",
        figures: &[RATE, CLIENT],
        contestants: of_native_protocols(16),
        targets: vec![
            must("windlass", "rate", Sense::AtLeast, Against::Peer("redis", 1.0)),
            goal("windlass", "rate", Sense::AtLeast, Against::Peer("redis", 1.5)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn http() -> Row {
    Row {
        name: "http-50x1",
        title: "echo of 64 B over HTTP/1.1, 50 connections, one request at a time",
        figures: &[RATE, CLIENT],
        contestants: vec![
            contestant("axum inline", |bench| axum_echo(bench, Handlers::Inline)),
            contestant("axum+rayon", |bench| axum_echo(bench, Handlers::Rayon)),
            contestant("axum spawn_blocking", |bench| axum_echo(bench, Handlers::Blocking)),
            contestant("windlass http", |bench| {
                let echo = Http::post(&target(Work::Echo), small());
                throughput(&echo, &windlassd(&[])?.http(), shape(bench, 1))
            }),
        ],
        targets: vec![must("windlass http", "rate", Sense::AtLeast, Against::Peer("axum+rayon", 1.25))],
        rounds_max: usize::MAX,
        remark: None,
    }
}

/// One connection of an idle machine: back to back, and with rests that let everything fall asleep.
fn alone() -> Row {
    Row {
        name: "alone",
        title: "echo of 64 B, one connection on an idle machine, back to back and after 5 ms of rest",
        figures: &[
            Figure { name: "p50", unit: "µs" },
            Figure { name: "p99", unit: "µs" },
            Figure { name: "rested p50", unit: "µs" },
        ],
        contestants: vec![
            contestant("redis", |bench| round_trips(bench, &Resp::echo(small()), &redis()?.tcp())),
            contestant("tokio+rayon", |bench| {
                round_trips(bench, &Frames::echo(small()), &frames(Answering::Echo)?.tcp())
            }),
            contestant("windlass", |bench| {
                round_trips(bench, &native(Work::Echo, small()), &windlassd(&[])?.tcp())
            }),
        ],
        targets: vec![must("windlass", "p50", Sense::AtMost, Against::Peer("redis", 1.15))],
        rounds_max: usize::MAX,
        remark: None,
    }
}

#[allow(clippy::cast_precision_loss, reason = "times stay far below 2^52 nanoseconds")]
fn round_trips(bench: &Bench, protocol: &dyn Protocol, address: &Address) -> Result<Sample> {
    let shape = Shape { times: true, ..Shape::new(1, 1, bench.unit) };
    let tally = closed_loop(protocol, address, shape, None)?;
    let pace = Pace { connections: 1, per_second: 200, duration: bench.unit.max(Duration::from_millis(500)) };
    let mut rested = paced(protocol, address, pace)?;
    rested.sort_unstable();
    let middle = rested[rested.len() / 2] as f64 / 1e3;
    Ok(Sample { times: tally.times, ..Sample::of("rested p50", middle) })
}
