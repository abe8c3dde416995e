//! Doing nothing: what a daemon needs while nobody asks anything of it.

use std::time::{Duration, Instant};

use super::{Bench, contestant, must, native};
use crate::figures::{Against, Figure, Row, Sample, Sense};
use crate::load::{Address, Http, Protocol, Resp, hold, noise};
use crate::peers::{Server, axum, nginx, pause, redis, windlassd};
use crate::process::{activity, memory};
use crate::programs::{self, installed};
use crate::serve::Handlers;
use crate::trouble::{Attempt, Result};
use crate::work::Work;

/// Connections that are open and silent.
const CONNECTIONS: usize = 1000;

pub(super) fn rows() -> Vec<Row> {
    vec![fresh(), silent()]
}

fn fresh() -> Row {
    Row {
        name: "fresh",
        title: "a process just started: memory, time until it accepts, size of its binary",
        figures: &[
            Figure { name: "memory", unit: "MiB resident" },
            Figure { name: "start", unit: "ms" },
            Figure { name: "binary", unit: "MiB, without line tables" },
        ],
        contestants: vec![
            contestant("nginx", |_| look(&nginx()?, &installed("nginx", "nginx-light")?)),
            contestant("redis", |_| look(&redis()?, &installed("redis-server", "redis-server")?)),
            contestant("windlass", |_| look(&windlassd(&[])?.server, &programs::windlassd()?)),
        ],
        targets: vec![
            must("windlass", "memory", Sense::AtMost, Against::Number(10.0)),
            must("windlass", "start", Sense::AtMost, Against::Number(20.0)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

const MEBIBYTE: f64 = 1024.0 * 1024.0;

#[allow(clippy::cast_precision_loss, reason = "sizes stay far below 2^52")]
fn look(server: &Server, binary: &std::path::Path) -> Result<Sample> {
    pause(Duration::from_millis(300));
    let resident = memory(&server.pids())?.resident;
    Ok(Sample::of("memory", resident / MEBIBYTE)
        .and("start", server.started_in.as_secs_f64() * 1e3)
        .and("binary", stripped_bytes(binary)? as f64 / MEBIBYTE))
}

/// Of the file as a package has it; as it stands where nothing can strip it.
fn stripped_bytes(binary: &std::path::Path) -> Result<u64> {
    let folder = tempfile::tempdir().trying("make a scratch folder")?;
    let copy = folder.path().join("stripped");
    let strip = std::process::Command::new("strip").arg("-o").arg(&copy).arg(binary).status();
    let path = if strip.is_ok_and(|status| status.success()) { &copy } else { binary };
    Ok(std::fs::metadata(path).trying(format!("look at {}", path.display()))?.len())
}

fn silent() -> Row {
    Row {
        name: "silent",
        title: "1,000 idle connections: CPU time and wake-ups",
        figures: &[
            Figure { name: "wake-ups", unit: "switches/s over all threads" },
            Figure { name: "cpu", unit: "% of a core" },
        ],
        contestants: vec![
            contestant("nginx", |bench| {
                let server = nginx()?;
                watch(bench, &server, &Http::get("/"), &server.tcp())
            }),
            contestant("redis", |bench| {
                let server = redis()?;
                watch(bench, &server, &Resp::echo(noise(64)), &server.tcp())
            }),
            contestant("axum", |bench| {
                let server = axum(Handlers::Rayon)?;
                watch(bench, &server, &Http::post("/echo", noise(64)), &server.tcp())
            }),
            contestant("windlass", |bench| {
                let daemon = windlassd(&[])?;
                watch(bench, &daemon.server, &native(Work::Echo, noise(64)), &daemon.tcp())
            }),
        ],
        targets: vec![
            must("windlass", "wake-ups", Sense::AtMost, Against::Number(20.0)),
            must("windlass", "cpu", Sense::AtMost, Against::Number(0.2)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn watch(bench: &Bench, server: &Server, protocol: &dyn Protocol, address: &Address) -> Result<Sample> {
    let held = hold(protocol, address, CONNECTIONS)?;
    pause(bench.unit);
    let pids = server.pids();
    let (before, began) = (activity(&pids)?, Instant::now());
    pause(bench.unit * 3);
    let (after, elapsed) = (activity(&pids)?, began.elapsed().as_secs_f64());
    drop(held);
    Ok(Sample::of("wake-ups", (after.switches - before.switches) / elapsed)
        .and("cpu", (after.cpu_seconds - before.cpu_seconds) / elapsed * 100.0))
}
