//! SIGTERM with 64 requests on their way: who has no answer.

use std::time::Instant;

use rustix::process::Signal;

use super::{Bench, contestant, must, native};
use crate::figures::{Against, Contestant, Figure, Row, Sample, Sense};
use crate::load::{Address, Gearman, Http, Protocol, Shape, closed_loop};
use crate::peers::{Server, axum, gearmand, windlassd};
use crate::serve::Handlers;
use crate::trouble::Result;

/// Connections with one job of 5 ms each.
const CONNECTIONS: usize = 64;

pub(super) fn row() -> Row {
    let of_axum = |name, handlers| -> Contestant {
        contestant(name, move |bench| {
            let server = axum(handlers)?;
            let address = server.tcp();
            drain(bench, &job_over_http(&format!("/{}", bench.burn.name())), &address, server)
        })
    };
    Row {
        name: "drain",
        title: "SIGTERM with 64 jobs of 5 ms on their way, on a connection each",
        figures: &[
            Figure { name: "lost", unit: "requests without an answer" },
            Figure { name: "turned away", unit: "requests answered otherwise" },
            Figure { name: "end", unit: "ms until the process has ended" },
            Figure { name: "status", unit: "exit status (-1: by signal)" },
        ],
        contestants: vec![
            of_axum("axum inline", Handlers::Inline),
            of_axum("axum+rayon", Handlers::Rayon),
            contestant("gearmand", |bench| {
                let name = bench.burn.name();
                let server = gearmand(&[&name, &name])?;
                let address = server.tcp();
                drain(bench, &Gearman::job(&name, b"password".to_vec()), &address, server)
            }),
            contestant("windlass http", |bench| {
                let daemon = windlassd(&[])?;
                let address = daemon.http();
                drain(bench, &job_over_http(&super::target(bench.burn)), &address, daemon.server)
            }),
            contestant("windlass", |bench| {
                let daemon = windlassd(&[])?;
                let address = daemon.tcp();
                drain(bench, &native(bench.burn, b"password".to_vec()), &address, daemon.server)
            }),
        ],
        targets: vec![
            must("windlass", "lost", Sense::AtMost, Against::Number(0.0)),
            must("windlass", "turned away", Sense::AtMost, Against::Number(0.0)),
            must("windlass", "status", Sense::AtMost, Against::Number(0.0)),
            must("windlass http", "lost", Sense::AtMost, Against::Number(0.0)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn job_over_http(target: &str) -> Http {
    Http::post(target, b"password".to_vec())
}

#[allow(clippy::cast_precision_loss, reason = "64 requests and some milliseconds")]
fn drain(bench: &Bench, protocol: &dyn Protocol, address: &Address, server: Server) -> Result<Sample> {
    let asked_at = std::cell::Cell::new(Instant::now());
    let terminate = || {
        asked_at.set(Instant::now());
        // A server that has gone already is found below.
        let _ = server.signal(Signal::TERM);
    };
    let shape = Shape::new(CONNECTIONS, 1, bench.unit / 4);
    let tally = closed_loop(protocol, address, shape, Some(&terminate))?;
    let asked_at = asked_at.get();
    let status = server.wait()?;
    Ok(Sample::of("lost", tally.lost as f64)
        .and("turned away", tally.turned_away as f64)
        .and("end", asked_at.elapsed().as_secs_f64() * 1e3)
        .and("status", f64::from(status.code().unwrap_or(-1))))
}
