//! A second worker: what it adds, beside what a second thread adds to the library in a loop.

use super::{Bench, contestant, must, native};
use crate::figures::{Against, Contestant, Figure, Row, Sample, Sense};
use crate::load::{Shape, closed_loop};
use crate::peers::windlassd;
use crate::trouble::Result;
use crate::work::{PASSWORD, Work, prose, raw_rate};

pub(super) fn row() -> Row {
    Row {
        name: "scaling",
        title: "from one worker to two, 16 connections",
        figures: &[
            Figure { name: "scaling", unit: "× the rate of one" },
            Figure { name: "one", unit: "jobs/s with one" },
            Figure { name: "two", unit: "jobs/s with two" },
        ],
        contestants: vec![
            raw("raw argon2id", PASSWORD),
            of_windlass("windlass argon2id", PASSWORD),
            raw("raw zstd", Work::Zstd),
            of_windlass("windlass zstd", Work::Zstd),
        ],
        targets: vec![
            must("windlass argon2id", "scaling", Sense::AtLeast, Against::Number(1.9)),
            must("windlass zstd", "scaling", Sense::AtLeast, Against::Number(1.7)),
        ],
        rounds_max: usize::MAX,
        remark: None,
    }
}

fn input(work: Work) -> Vec<u8> {
    if work == Work::Zstd { prose(64 << 10) } else { b"correct horse battery staple".to_vec() }
}

fn raw(name: &'static str, work: Work) -> Contestant {
    contestant(name, move |bench| compare(|threads| Ok(raw_rate(work, &input(work), threads, bench.unit))))
}

fn of_windlass(name: &'static str, work: Work) -> Contestant {
    contestant(name, move |bench: &Bench| {
        compare(|threads| {
            let daemon = windlassd(&[&format!("cpu.threads={threads}")])?;
            let shape = Shape::new(16, 1, bench.unit);
            Ok(closed_loop(&native(work, input(work)), &daemon.tcp(), shape, None)?.per_second())
        })
    })
}

fn compare(rate: impl Fn(usize) -> Result<f64>) -> Result<Sample> {
    let (one, two) = (rate(1)?, rate(2)?);
    Ok(Sample::of("scaling", two / one).and("one", one).and("two", two))
}
