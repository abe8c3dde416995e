//! What an idle connection costs: the slope between few and many, each of which has had one request answered.

use super::{Bench, contestant, goal, must, native};
use crate::figures::{Against, Contestant, Figure, Measured, Row, Sample, Sense};
use crate::load::{Address, Http, Protocol, Resp, hold, noise};
use crate::peers::{Server, axum, nginx, pause, redis, windlassd};
use crate::process::{kernel_objects, memory};
use crate::serve::Handlers;
use crate::trouble::Result;
use crate::work::Work;

/// Connections from which the slope is measured, so that what a server makes once does not count.
const FEW: usize = 500;

pub(super) fn row() -> Row {
    Row {
        name: "idle-memory",
        title: "user memory per idle connection, 18,500 of them (one process may open 20,000 descriptors)",
        figures: &[
            Figure { name: "user", unit: "B written to, per connection" },
            Figure { name: "resident", unit: "B resident, per connection" },
            Figure { name: "kernel", unit: "B of kernel objects, both ends, per connection" },
            Figure { name: "connections", unit: "connections" },
        ],
        contestants: contestants(),
        targets: vec![
            must("windlass", "user", Sense::AtMost, Against::Number(1500.0)),
            goal("windlass", "user", Sense::AtMost, Against::Peer("nginx", 1.0)),
            must("windlass http", "user", Sense::AtMost, Against::Peer("axum", 1.0)),
        ],
        rounds_max: 2,
        remark: Some(extrapolate),
    }
}

fn contestants() -> Vec<Contestant> {
    vec![
        contestant("nginx", |bench| {
            let server = nginx()?;
            slope(bench, &server, &Http::get("/"), &server.tcp())
        }),
        contestant("redis", |bench| {
            let server = redis()?;
            slope(bench, &server, &Resp::echo(noise(64)), &server.tcp())
        }),
        contestant("axum", |bench| {
            let server = axum(Handlers::Rayon)?;
            slope(bench, &server, &Http::post("/echo", noise(64)), &server.tcp())
        }),
        contestant("windlass http", |bench| {
            let daemon = windlassd(&[])?;
            let echo = Http::post(&super::target(Work::Echo), noise(64));
            slope(bench, &daemon.server, &echo, &daemon.http())
        }),
        contestant("windlass", |bench| {
            let daemon = windlassd(&[])?;
            slope(bench, &daemon.server, &native(Work::Echo, noise(64)), &daemon.tcp())
        }),
    ]
}

#[allow(clippy::cast_precision_loss, reason = "thousands of connections")]
fn slope(bench: &Bench, server: &Server, protocol: &dyn Protocol, address: &Address) -> Result<Sample> {
    let few = hold(protocol, address, FEW)?;
    pause(bench.settle);
    let pids = server.pids();
    let (before, kernel_before) = (memory(&pids)?, kernel_objects()?);
    let more = hold(protocol, address, bench.many - FEW)?;
    pause(bench.settle);
    let (after, kernel_after) = (memory(&pids)?, kernel_objects()?);
    let n_more = more.len() as f64;
    drop((few, more));
    Ok(Sample::of("user", (after.private_dirty - before.private_dirty) / n_more)
        .and("resident", (after.resident - before.resident) / n_more)
        .and("kernel", (kernel_after - kernel_before) / n_more)
        .and("connections", bench.many as f64))
}

/// On paper, because no process here may open more.
fn extrapolate(measured: &Measured) -> String {
    let mut lines = vec![
        "on paper, from these slopes, kernel objects of the server's end taken as half of both ends':"
            .to_owned(),
    ];
    for (name, score) in &measured.scores {
        let (Some(user), Some(kernel)) = (score.get("user"), score.get("kernel")) else { continue };
        let each = user.value() + kernel.value() / 2.0;
        let mebibytes = |connections: f64| each * connections / f64::from(1 << 20);
        lines.push(format!(
            "  {name}: {:.0} B user + {:.0} B kernel each; 100,000 connections {:.0} MiB; a million {:.0} MiB",
            user.value(),
            kernel.value() / 2.0,
            mebibytes(1e5),
            mebibytes(1e6)
        ));
    }
    lines.join("\n")
}
