//! The pieces of a request's way whose cost is watched: each is run `n` times on one thread, without a clock that
//! matters, a socket or a random number.

use std::hint::black_box;

use windlass_actors::bench::Bench;
use windlass_protocol::{Extensions, Header, Kind, PRIORITY_INTERACTIVE, Prefix, Reply, Work, append_frame};

/// One piece.
pub struct Piece {
    /// Its name in the record of counts.
    pub name: &'static str,
    /// Runs it `n` times. What it needs to be ready is made once, whatever `n` is.
    pub run: fn(usize),
}

/// All of them.
pub const PIECES: &[Piece] = &[
    Piece { name: "codec-work-write", run: work_write },
    Piece { name: "codec-work-read", run: work_read },
    Piece { name: "codec-reply-write", run: reply_write },
    Piece { name: "codec-reply-read", run: reply_read },
    Piece { name: "admission", run: |n| Bench::default().admission(n) },
    Piece { name: "intake", run: |n| Bench::default().intake(n) },
    Piece { name: "schedule", run: |n| Bench::default().schedule(n) },
    Piece { name: "reply-of-1", run: |n| Bench::default().reply(n, 1) },
    Piece { name: "reply-of-16", run: |n| Bench::default().reply(n, 16) },
    Piece { name: "bridge-of-1", run: |n| Bench::default().bridge(n, 1) },
    Piece { name: "bridge-of-16", run: |n| Bench::default().bridge(n, 16) },
];

/// The piece of this name.
pub fn find(name: &str) -> Option<&'static Piece> {
    PIECES.iter().find(|piece| piece.name == name)
}

const BODY: &[u8] = &[7; 64];

fn work() -> Work<'static> {
    Work {
        operation: "hash",
        parameters: vec![("algorithm", "sha256"), ("encoding", "raw")],
        sent_at: 1_700_000_000_000_000,
        deadline: Some(250),
        priority: PRIORITY_INTERACTIVE,
        body_total: None,
        extensions: Extensions::default(),
    }
}

fn reply() -> Reply<'static> {
    Reply { queue_time: 12, service_time: 345, load: 50, body_total: None, extensions: Extensions::default() }
}

fn write(n: usize, kind: Kind, header: &impl serde::Serialize) {
    let mut out = Vec::with_capacity(4096);
    for id in 1..=n {
        out.clear();
        append_frame(&mut out, kind, id as u64, black_box(header), black_box(BODY));
        black_box(&out);
    }
}

/// Reads prefix and header, as the daemon and the client do before anything else.
fn read<'a, H: Header<'a>>(n: usize, bytes: &'a [u8]) {
    for _ in 0..n {
        let bytes = black_box(bytes);
        let prefix = Prefix::peek(bytes).expect("the frame is whole");
        black_box(prefix.check()).expect("the frame keeps the rules");
        let header = &bytes[windlass_protocol::PREFIX_BYTES..][..usize::from(prefix.header_len)];
        black_box(H::decode(header)).expect("the header is one of this kind");
    }
}

fn work_write(n: usize) {
    write(n, Kind::Work, &work());
}

fn work_read(n: usize) {
    let mut frame = Vec::new();
    append_frame(&mut frame, Kind::Work, 1, &work(), BODY);
    read::<Work<'_>>(n, &frame);
}

fn reply_write(n: usize) {
    write(n, Kind::Reply, &reply());
}

fn reply_read(n: usize) {
    let mut frame = Vec::new();
    append_frame(&mut frame, Kind::Reply, 1, &reply(), BODY);
    read::<Reply<'_>>(n, &frame);
}
