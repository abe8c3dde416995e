//! Many connections, of which as few are busy as before: whether it is the requests that cost, or the connections.

use super::{Bench, CLIENT, RATE, contestant, must, native, throughput};
use crate::figures::{Against, Contestant, Row, Sample, Sense};
use crate::load::{Address, Protocol, Resp, Shape, noise};
use crate::peers::{redis, windlassd};
use crate::trouble::Result;
use crate::work::Work;

/// Requests in flight on all connections together.
const IN_FLIGHT: usize = 64;

/// How many connections.
#[derive(Clone, Copy)]
enum Many {
    One,
    AsRequests,
    Thousand,
    All,
}

pub(super) fn row() -> Row {
    let mut contestants = vec![of_redis("redis, 64", Many::AsRequests), of_redis("redis, 18,500", Many::All)];
    contestants.extend([
        of_windlass("windlass, 1", Many::One),
        of_windlass("windlass, 64", Many::AsRequests),
        of_windlass("windlass, 1,000", Many::Thousand),
        of_windlass("windlass, 18,500", Many::All),
    ]);
    Row {
        name: "connections",
        title: "echo of 64 B, 64 in flight in all, on 1 to 18,500 connections that take turns",
        figures: &[RATE, CLIENT],
        contestants,
        targets: vec![
            must("windlass, 18,500", "rate", Sense::AtLeast, Against::Peer("windlass, 1", 0.85)),
            must("windlass, 18,500", "rate", Sense::AtLeast, Against::Peer("windlass, 64", 0.85)),
        ],
        rounds_max: 3,
        remark: Some(|_| {
            "one process may open 20,000 descriptors, so there are no more; one connection carries 64 requests in one read and one write; on as many connections as requests, \
             and on more, each has its own, for every server and for the load generator"
                .to_owned()
        }),
    }
}

fn of_redis(name: &'static str, many: Many) -> Contestant {
    contestant(name, move |bench| measure(bench, &Resp::echo(noise(64)), &redis()?.tcp(), many))
}

fn of_windlass(name: &'static str, many: Many) -> Contestant {
    contestant(name, move |bench| {
        measure(bench, &native(Work::Echo, noise(64)), &windlassd(&[])?.tcp(), many)
    })
}

fn measure(bench: &Bench, protocol: &dyn Protocol, address: &Address, many: Many) -> Result<Sample> {
    let connections = match many {
        Many::One => 1,
        Many::AsRequests => IN_FLIGHT,
        Many::Thousand => 1000,
        Many::All => bench.many,
    };
    let shape = Shape::new(connections, IN_FLIGHT, bench.unit);
    throughput(protocol, address, Shape { rotate: connections > 1, ..shape })
}
