//! Real work: how much of the library's own rate is left.

use super::{Bench, CLIENT, RATE, contestant, goal, must, native, throughput};
use crate::figures::{Against, Contestant, Row, Sample, Sense};
use crate::load::{Frames, Gearman, Http, Shape, noise};
use crate::peers::{Windlassd, axum, frames, gearmand, windlassd};
use crate::serve::{Answering, FRAMES_SOCKET, Handlers};
use crate::trouble::Result;
use crate::work::{PASSWORD, Work, prose, raw_rate};

/// Enough to keep every worker busy, few enough that nobody waits long.
const CONNECTIONS: usize = 16;

/// What these rows are measured on and the raw loop is run on.
const CORES: usize = 2;

type Input = fn() -> Vec<u8>;

pub(super) fn rows() -> Vec<Row> {
    vec![argon2(), zstd(), sha256_small(), sha256_large()]
}

fn shape(bench: &Bench) -> Shape {
    Shape::new(CONNECTIONS, 1, bench.unit)
}

fn raw(work: Work, input: Input) -> Contestant {
    contestant("raw loop", move |bench| Ok(Sample::of("rate", raw_rate(work, &input(), CORES, bench.unit))))
}

fn of_axum(name: &'static str, handlers: Handlers, work: Work, input: Input) -> Contestant {
    contestant(name, move |bench| {
        let protocol = Http::post(&format!("/{}", work.name()), input());
        throughput(&protocol, &axum(handlers)?.tcp(), shape(bench))
    })
}

fn of_gearmand(work: Work, input: Input) -> Contestant {
    contestant("gearmand", move |bench| {
        let name = work.name();
        throughput(&Gearman::job(&name, input()), &gearmand(&[&name, &name])?.tcp(), shape(bench))
    })
}

fn of_windlass(
    name: &'static str,
    work: Work,
    input: Input,
    door: fn(&Windlassd) -> crate::load::Address,
) -> Contestant {
    contestant(name, move |bench| {
        let daemon = windlassd(&[])?;
        throughput(&native(work, input()), &door(&daemon), shape(bench))
    })
}

fn argon2() -> Row {
    let password: Input = || b"correct horse battery staple".to_vec();
    Row {
        name: "argon2id",
        title: "argon2id, 19 MiB, 2 passes, 16 connections",
        figures: &[RATE],
        contestants: vec![
            raw(PASSWORD, password),
            of_axum("axum+rayon", Handlers::Rayon, PASSWORD, password),
            of_axum("axum spawn_blocking", Handlers::Blocking, PASSWORD, password),
            of_gearmand(PASSWORD, password),
            of_windlass("windlass", PASSWORD, password, Windlassd::tcp),
        ],
        targets: vec![must("windlass", "rate", Sense::AtLeast, Against::Peer("raw loop", 1.02))],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn zstd() -> Row {
    let text: Input = || prose(64 << 10);
    Row {
        name: "zstd-64k",
        title: "zstd level 3 of 64 KiB of text, 16 connections",
        figures: &[RATE],
        contestants: vec![
            raw(Work::Zstd, text),
            of_axum("axum inline", Handlers::Inline, Work::Zstd, text),
            of_axum("axum+rayon", Handlers::Rayon, Work::Zstd, text),
            of_gearmand(Work::Zstd, text),
            of_windlass("windlass", Work::Zstd, text, Windlassd::tcp),
        ],
        targets: vec![
            must("windlass", "rate", Sense::AtLeast, Against::Peer("raw loop", 0.94)),
            goal("windlass", "rate", Sense::AtLeast, Against::Peer("raw loop", 0.98)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn sha256_small() -> Row {
    Row { name: "sha256-64k", title: "sha256 of 64 KiB, 16 connections", ..sha256(|| noise(64 << 10), 0.60) }
}

fn sha256_large() -> Row {
    Row { name: "sha256-1m", title: "sha256 of 1 MiB, 16 connections", ..sha256(|| noise(1 << 20), 0.65) }
}

/// Bound by how bodies arrive: beside it stands what arrives when nothing is computed.
fn sha256(body: Input, share_of_raw: f64) -> Row {
    let transport = move |name, on_unix: bool| {
        contestant(name, move |bench: &Bench| -> Result<Sample> {
            let server = frames(Answering::Nothing)?;
            let address = if on_unix { server.unix(FRAMES_SOCKET) } else { server.tcp() };
            throughput(&Frames::echo(body()), &address, shape(bench))
        })
    };
    Row {
        name: "",
        title: "",
        figures: &[RATE, CLIENT],
        contestants: vec![
            raw(Work::Sha256, body),
            transport("transport alone, tcp", false),
            transport("transport alone, unix", true),
            of_axum("axum+rayon", Handlers::Rayon, Work::Sha256, body),
            of_gearmand(Work::Sha256, body),
            of_windlass("windlass tcp", Work::Sha256, body, Windlassd::tcp),
            of_windlass("windlass unix", Work::Sha256, body, Windlassd::unix),
        ],
        targets: vec![
            must("windlass tcp", "rate", Sense::AtLeast, Against::Peer("axum+rayon", 1.2)),
            must("windlass unix", "rate", Sense::AtLeast, Against::Peer("windlass tcp", 1.0)),
            goal("windlass tcp", "rate", Sense::AtLeast, Against::Peer("raw loop", share_of_raw)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}
