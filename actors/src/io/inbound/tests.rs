//! However a stream is cut into reads, the same requests come out of it.

use windlass_protocol::{Extensions, PRIORITY_INTERACTIVE, Work, append_frame};

use super::*;

const SCRATCH_BYTES: usize = 64 * 1024;

fn work(id: u64, value: &str, body: &[u8]) -> Vec<u8> {
    let header = Work {
        operation: "echo",
        parameters: vec![("key", value)],
        sent_at: 0,
        deadline: None,
        priority: PRIORITY_INTERACTIVE,
        body_total: None,
        extensions: Extensions::default(),
    };
    let mut frame = Vec::new();
    append_frame(&mut frame, Kind::Work, id, &header, body);
    frame
}

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

/// What becomes of a request whose body is not here yet.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Open,
    Secret,
    Refused,
}

/// What came out of a stream.
#[derive(Default)]
struct Found {
    /// Ids and bodies; of refused requests none.
    requests: Vec<(u64, Vec<u8>)>,
    n_reads: usize,
    /// Bodies that stayed where they were read with their heads.
    n_with_head: usize,
    /// Most bytes of memory that a body had besides its own.
    besides_max: usize,
}

/// A connection whose reads deliver as much as it says.
struct Reader {
    inbound: Inbound<u64>,
    fate: fn(u64) -> Fate,
    found: Found,
}

impl Reader {
    fn new(fate: fn(u64) -> Fate) -> Self {
        let mut inbound = Inbound::new(u32::MAX);
        let mut preface = &PREFACE[..];
        assert!(matches!(inbound.next(&mut preface), Ok(Some(Item::Preface))));
        Self { inbound, fate, found: Found::default() }
    }

    /// One read, of at most `most` bytes; what is left of the stream.
    fn read<'s>(&mut self, stream: &'s [u8], most: usize) -> &'s [u8] {
        self.found.n_reads += 1;
        if let Some((body, room)) = self.inbound.in_place() {
            let (memory, (read, rest)) = (body.as_ptr(), stream.split_at(most.min(room).min(stream.len())));
            body.extend_from_slice(read);
            assert!(body.len() == read.len() || body.as_ptr() == memory, "the body has moved");
            let overrun = self.inbound.overrun();
            self.take_apart(&overrun);
            return rest;
        }
        let Some(room) = self.inbound.expects() else {
            let (read, rest) = stream.split_at(most.min(SCRATCH_BYTES).min(stream.len()));
            self.take_apart(read);
            return rest;
        };
        let (read, rest) = stream.split_at(most.min(room).min(stream.len()));
        let mut ahead = Vec::with_capacity(room);
        ahead.extend_from_slice(read);
        match self.inbound.expected_head(&ahead) {
            None => self.take_apart(&ahead),
            Some(head_len) => {
                self.take_apart(&ahead[..head_len]);
                match self.inbound.adopt(ahead, head_len) {
                    Ok(overrun) => self.take_apart(&overrun),
                    Err(ahead) => self.take_apart(&ahead[head_len..]),
                }
            }
        }
        rest
    }

    fn take_apart(&mut self, mut data: &[u8]) {
        while let Some(item) = self.inbound.next(&mut data).unwrap() {
            match item {
                Item::Work { prefix, body: Some(body), .. } => {
                    self.found.requests.push((prefix.id, body.to_vec()));
                }
                Item::Work { prefix, body: None, .. } => match (self.fate)(prefix.id) {
                    Fate::Refused => self.inbound.skip(u64::from(prefix.body_len)),
                    Fate::Open => {
                        self.inbound.arrive(prefix.id, Body::Open { bytes: Vec::new(), from: 0 }, prefix);
                    }
                    Fate::Secret => {
                        self.inbound.arrive(prefix.id, Body::Secret(Zeroizing::default()), prefix);
                    }
                },
                Item::Arrived(Arriving { waiting, body: Body::Open { bytes, from }, body_len }) => {
                    self.found.n_with_head += usize::from(from > 0);
                    self.found.besides_max = self.found.besides_max.max(bytes.capacity() - body_len);
                    self.found.requests.push((waiting, bytes[from..].to_vec()));
                }
                Item::Arrived(Arriving { waiting, body: Body::Secret(bytes), .. }) => {
                    self.found.requests.push((waiting, bytes.to_vec()));
                }
                Item::Preface | Item::Frame(_) => panic!("the stream has only requests"),
            }
        }
    }
}

#[test]
fn however_a_stream_is_cut_the_same_requests_come_out_of_it() {
    let fate = |id| match id % 7 {
        3 => Fate::Secret,
        5 => Fate::Refused,
        _ => Fate::Open,
    };
    let mut rng = fastrand::Rng::with_seed(11);
    let mut n_with_head = 0;
    for _ in 0..60 {
        let mut sent = Vec::new();
        let mut stream = Vec::new();
        let mut ends = Vec::new();
        let mut length = 70_000;
        for id in 1..=20 {
            // In a row of equals now and then one that is a little or much larger or smaller.
            length = match rng.u8(..8) {
                0 => rng.usize(..200_000),
                1 => length + 1,
                2 => length.saturating_sub(300),
                _ => length,
            };
            let body = body(length);
            stream.extend(work(id, &"v".repeat(rng.usize(..3) * 200), &body));
            sent.push((id, body));
            ends.push(stream.len());
        }
        let cut = [1000, 60_000, 71_000, 1 << 20][rng.usize(..4)];
        let mut reader = Reader::new(fate);
        let mut rest = &*stream;
        while !rest.is_empty() {
            // Half of the clients wait for an answer before they send the next request.
            let at = stream.len() - rest.len();
            let end = ends.iter().find(|end| **end > at).unwrap();
            let most = if rng.bool() { end - at } else { usize::MAX };
            rest = reader.read(rest, rng.usize(1..=cut).min(most));
        }
        let found = reader.found;
        // A request that is here whole is refused elsewhere.
        let refused =
            |id: u64| fate(id) == Fate::Refused && found.requests.iter().all(|(found, _)| *found != id);
        sent.retain(|(id, _)| !refused(*id));
        assert!(found.requests == sent, "cut into at most {cut}");
        assert!(found.besides_max <= 2 * BESIDES_BYTES_MAX, "{} bytes", found.besides_max);
        n_with_head += found.n_with_head;
    }
    assert!(n_with_head > 50, "{n_with_head}");
}

#[test]
fn after_a_large_request_another_one_takes_one_read_and_no_copy() {
    let mut reader = Reader::new(|_| Fate::Open);
    for id in 1..=10 {
        let request = work(id, "", &body(65_536));
        let mut rest = &*request;
        while !rest.is_empty() {
            rest = reader.read(rest, usize::MAX);
        }
    }
    let found = reader.found;
    assert_eq!((found.requests.len(), found.n_with_head), (10, 9));
    assert_eq!(found.n_reads, 2 + 9);
}

#[test]
fn large_requests_that_follow_each_other_closely_take_a_read_each() {
    let mut reader = Reader::new(|_| Fate::Open);
    let stream: Vec<u8> = (1..=10).flat_map(|id| work(id, "", &body(65_536))).collect();
    let mut rest = &*stream;
    while !rest.is_empty() {
        rest = reader.read(rest, usize::MAX);
    }
    assert_eq!(reader.found.requests.len(), 10);
    assert!(reader.found.n_reads <= 2 + 10, "{}", reader.found.n_reads);
}

#[test]
fn nothing_large_is_expected_after_something_small_or_secret() {
    let mut reader = Reader::new(|id| if id == 2 { Fate::Secret } else { Fate::Open });
    let deliver = |reader: &mut Reader, id, length| {
        let request = work(id, "", &body(length));
        let mut rest = &*request;
        while !rest.is_empty() {
            rest = reader.read(rest, usize::MAX);
        }
        reader.inbound.expects()
    };
    assert_eq!(deliver(&mut reader, 1, 100), None);
    assert_eq!(deliver(&mut reader, 2, 100_000), None);
    let room = deliver(&mut reader, 3, 100_000);
    assert!(room.is_some_and(|room| (100_000..101_000).contains(&room)), "{room:?}");
    assert_eq!(deliver(&mut reader, 4, 8 << 20), None, "it would be too much memory for nothing");
    assert!(deliver(&mut reader, 5, 100_000).is_some());
    assert_eq!(deliver(&mut reader, 6, 100), None);
}

#[test]
fn a_request_smaller_than_expected_does_not_keep_the_memory_of_a_larger_one() {
    let mut reader = Reader::new(|_| Fate::Open);
    let (large, small) = (work(1, "", &body(1 << 20)), work(2, "", &body(40_000)));
    let mut rest = &*large;
    while !rest.is_empty() {
        rest = reader.read(rest, usize::MAX);
    }
    assert!(reader.inbound.expects().is_some());
    let rest = reader.read(&small, 1000);
    let (body, room) =
        reader.inbound.in_place().unwrap_or_else(|| panic!("{} bytes are missing", rest.len()));
    assert!(body.len() + room <= 40_000 + 2 * BESIDES_BYTES_MAX, "{}", body.len() + room);
}
