//! Light requests beside heavy ones: whether anybody notices that all cores are busy.

use std::time::Duration;

use super::{Bench, contestant, goal, must, native};
use crate::figures::{Against, Figure, Row, Sample, Sense};
use crate::load::{Address, Gearman, Http, Native, Pace, Protocol, Shape, closed_loop, noise, paced};
use crate::peers::{axum, gearmand, pause, windlassd};
use crate::serve::Handlers;
use crate::trouble::Result;
use crate::work::Work;

/// Clients that each keep one job of 5 ms in flight.
const HEAVY_CLIENTS: usize = 64;

/// Light requests per second.
const PER_SECOND: u32 = 200;

const FIGURES: &[Figure] = &[
    Figure { name: "p99", unit: "µs" },
    Figure { name: "p50", unit: "µs" },
    Figure { name: "p99.9", unit: "µs" },
    Figure { name: "jobs", unit: "jobs/s beside" },
];

pub(super) fn rows() -> Vec<Row> {
    vec![ping(), ping_spread(), light_job()]
}

/// Two protocols of one peer: what is heavy and what is light.
struct Pair<'p> {
    heavy: &'p dyn Protocol,
    light: &'p dyn Protocol,
}

/// Times of the light requests while the heavy ones run, and how many of those were done.
fn beside(pair: &Pair<'_>, address: &Address, connections: usize, duration: Duration) -> Result<Sample> {
    let lead = Duration::from_millis(400);
    let shape = Shape::new(HEAVY_CLIENTS, 1, duration + lead);
    std::thread::scope(|scope| {
        let heavy = scope.spawn(move || closed_loop(pair.heavy, address, shape, None));
        // Until the load stands, and its warm-up is over.
        pause(shape.warm_up + lead);
        let light = paced(pair.light, address, Pace { connections, per_second: PER_SECOND, duration });
        let heavy = heavy.join().expect("the load does not panic")?;
        Ok(Sample { times: light?, ..Sample::of("jobs", heavy.per_second()) })
    })
}

fn of_axum(bench: &Bench, handlers: Handlers, light: &Http, how: How) -> Result<Sample> {
    let heavy = Http::post(&format!("/{}", bench.burn.name()), b"password".to_vec());
    let pair = Pair { heavy: &heavy, light };
    beside(&pair, &axum(handlers)?.tcp(), how.connections, bench.unit * how.units)
}

fn of_windlass(bench: &Bench, light: &Native, how: How) -> Result<Sample> {
    let heavy = native(bench.burn, b"password".to_vec());
    let pair = Pair { heavy: &heavy, light };
    beside(&pair, &windlassd(&[])?.tcp(), how.connections, bench.unit * how.units)
}

/// On how many connections, and for how many times the simple measurement.
#[derive(Clone, Copy)]
struct How {
    connections: usize,
    units: u32,
}

/// One connection: 4,000 pings in each round of the full form, 20,000 in all.
const WARM: How = How { connections: 1, units: 10 };
const SPREAD: How = How { connections: 100, units: 5 };
/// As many, so that on no connection one waits for the answer to another, which HTTP/1.1 would have it do.
const LIGHT_JOBS: How = How { connections: 100, units: 4 };

fn ping() -> Row {
    Row {
        name: "ping-beside",
        title: "ping, 200 per second on one connection, beside 64 clients with jobs of 5 ms",
        figures: FIGURES,
        contestants: vec![
            contestant("axum+rayon", |bench| of_axum(bench, Handlers::Rayon, &Http::get("/ping"), WARM)),
            contestant("axum+rayon, nice 19", |bench| {
                of_axum(bench, Handlers::RayonNice, &Http::get("/ping"), WARM)
            }),
            contestant("axum spawn_blocking", |bench| {
                of_axum(bench, Handlers::Blocking, &Http::get("/ping"), WARM)
            }),
            contestant("gearmand", |bench| {
                let name = bench.burn.name();
                let heavy = Gearman::job(&name, b"password".to_vec());
                let pair = Pair { heavy: &heavy, light: &Gearman::echo(noise(8)) };
                let server = gearmand(&[&name, &name])?;
                beside(&pair, &server.tcp(), WARM.connections, bench.unit * WARM.units)
            }),
            contestant("windlass", |bench| of_windlass(bench, &Native::ping(), WARM)),
        ],
        targets: vec![
            must("windlass", "p99", Sense::AtMost, Against::Peer("axum+rayon, nice 19", 1.1)),
            must("windlass", "p99.9", Sense::AtMost, Against::Peer("axum+rayon, nice 19", 1.1)),
            must("windlass", "jobs", Sense::AtLeast, Against::Peer("axum+rayon", 0.97)),
            goal("windlass", "p99", Sense::AtMost, Against::Number(120.0)),
            goal("windlass", "p99.9", Sense::AtMost, Against::Number(400.0)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn ping_spread() -> Row {
    Row {
        name: "ping-beside-100",
        title: "the same pings spread over 100 connections",
        figures: FIGURES,
        contestants: vec![
            contestant("axum+rayon", |bench| of_axum(bench, Handlers::Rayon, &Http::get("/ping"), SPREAD)),
            contestant("axum+rayon, nice 19", |bench| {
                of_axum(bench, Handlers::RayonNice, &Http::get("/ping"), SPREAD)
            }),
            contestant("windlass", |bench| of_windlass(bench, &Native::ping(), SPREAD)),
        ],
        targets: vec![must("windlass", "p99", Sense::AtMost, Against::Peer("axum+rayon, nice 19", 1.2))],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn light_job() -> Row {
    Row {
        name: "hash-beside",
        title: "hash of 64 B, 200 per second over 100 connections, beside 64 clients with jobs of 5 ms",
        figures: FIGURES,
        contestants: vec![
            contestant("gearmand, own worker", |bench| {
                let name = bench.burn.name();
                let heavy = Gearman::job(&name, b"password".to_vec());
                let pair = Pair { heavy: &heavy, light: &Gearman::job("blake3", noise(64)) };
                let server = gearmand(&[&name, &name, "blake3"])?;
                beside(&pair, &server.tcp(), LIGHT_JOBS.connections, bench.unit * LIGHT_JOBS.units)
            }),
            contestant("axum+rayon, nice 19", |bench| {
                of_axum(bench, Handlers::RayonNice, &Http::post("/blake3", noise(64)), LIGHT_JOBS)
            }),
            contestant("windlass", |bench| of_windlass(bench, &native(Work::Blake3, noise(64)), LIGHT_JOBS)),
        ],
        targets: vec![must("windlass", "p99", Sense::AtMost, Against::Number(6000.0))],
        rounds_max: usize::MAX,
        remark: None,
    }
}
