//! What is written is what is read: headers of random values, seeded, through the codec and through the hand-written
//! reading.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

#[allow(dead_code, reason = "shared by several test programs, each of which uses a part")]
mod support;

use serde::Serialize;
use support::codec::written;
use support::{read_frame, read_header};
use windlass_protocol::{
    Close, Closed, Credit, Extensions, Failure, GoAway, Header, Hello, Kind, NoFields, PREFIX_BYTES, Prefix,
    Query, Reply, Welcome, Work, limits,
};

const ROUNDS: usize = 500;

/// Values with every width of the wire equally likely.
struct Values(fastrand::Rng);

impl Values {
    fn u64(&mut self) -> u64 {
        self.0.u64(..) >> self.0.u32(..64)
    }

    fn u32(&mut self) -> u32 {
        self.0.u32(..) >> self.0.u32(..32)
    }

    fn u16(&mut self) -> u16 {
        self.0.u16(..) >> self.0.u32(..16)
    }

    fn byte(&mut self) -> u8 {
        self.0.u8(..)
    }

    fn optional(&mut self) -> Option<u64> {
        self.0.bool().then(|| self.u64())
    }

    fn text(&mut self, bytes_max: usize) -> String {
        let length = self.0.usize(..=bytes_max);
        let mut text = String::new();
        while text.len() < length {
            let letter = if self.0.bool() { self.0.char(..) } else { self.0.alphanumeric() };
            if text.len() + letter.len_utf8() > length {
                break;
            }
            text.push(letter);
        }
        text
    }

    fn parameters(&mut self) -> Vec<(String, String)> {
        let count = self.0.usize(..=limits::PARAMETERS_MAX);
        (0..count).map(|_| (self.text(limits::NAME_BYTES_MAX), self.text(64))).collect()
    }

    fn extensions(&mut self) -> Vec<(u16, Vec<u8>)> {
        let count = self.0.usize(..=limits::EXTENSIONS_MAX);
        (0..count)
            .map(|_| {
                let length = self.0.usize(..300);
                let content = (0..length).map(|_| self.byte()).collect();
                (self.u16(), content)
            })
            .collect()
    }
}

/// A header within its frame, found again by hand.
fn framed(kind: Kind, header: &impl Serialize) -> Vec<u8> {
    let bytes = written(kind, 0, 1, header, b"body");
    let prefix = Prefix::peek(&bytes).unwrap();
    assert_eq!((prefix.kind, prefix.id, prefix.body_len), (kind.number(), 1, 4));
    let header = bytes[PREFIX_BYTES..bytes.len() - 4].to_vec();
    let (fields, used) = read_frame(&bytes).unwrap();
    assert_eq!(used, bytes.len());
    assert_eq!(fields[5..fields.len() - 1], read_header(kind.number(), &header).unwrap());
    header
}

/// Writes a header of the named kind and reads it again.
macro_rules! survives {
    ($kind:ident { $($field:ident: $value:expr),* $(,)? }) => {
        let written = $kind { $($field: $value),* };
        let bytes = framed(Kind::$kind, &written);
        assert_eq!($kind::decode(&bytes).unwrap(), written);
    };
}

/// W-21, W-28, W-30
#[test]
fn headers_of_random_values_survive_the_round_trip() {
    let mut random = Values(fastrand::Rng::with_seed(1));
    for _ in 0..ROUNDS {
        let name = random.text(limits::NAME_BYTES_MAX);
        let message = random.text(limits::MESSAGE_BYTES_MAX);
        let parameters = random.parameters();
        let parameters: Vec<_> = parameters.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        let held = random.extensions();
        let extensions =
            || Extensions(held.iter().map(|(number, content)| (*number, &content[..])).collect());
        survives!(Hello {
            version_min: random.u16(),
            version_max: random.u16(),
            features: random.u64(),
            frame_bytes_max: random.u32(),
            window: random.u32(),
            client: &name,
            extensions: extensions(),
        });
        survives!(Welcome {
            version: random.u16(),
            features: random.u64(),
            frame_bytes_max: random.u32(),
            window: random.u32(),
            body_bytes_max: random.u64(),
            in_flight_max: random.u32(),
            server: &name,
            extensions: extensions(),
        });
        survives!(Work {
            operation: &name,
            parameters: parameters,
            sent_at: random.u64(),
            deadline: random.optional(),
            priority: random.byte(),
            body_total: random.optional(),
            extensions: extensions(),
        });
        survives!(Reply {
            queue_time: random.u64(),
            service_time: random.u64(),
            load: random.byte(),
            body_total: random.optional(),
            extensions: extensions(),
        });
        survives!(Failure {
            code: random.u16(),
            message: &message,
            retry_after: random.optional(),
            retry_safe: random.0.bool(),
            load: random.byte(),
            extensions: extensions(),
        });
        survives!(Credit { bytes: random.u64(), extensions: extensions() });
        survives!(Query { subject: random.u16(), extensions: extensions() });
        survives!(GoAway { last_id: random.u64(), reason: random.u16(), extensions: extensions() });
        survives!(Close { opened_at: random.u64(), closed_at: random.u64(), extensions: extensions() });
        survives!(Closed {
            requests: random.u64(),
            failures: random.u64(),
            bytes_in: random.u64(),
            bytes_out: random.u64(),
            queue_time: random.u64(),
            service_time: random.u64(),
            extensions: extensions(),
        });
        for kind in [Kind::Data, Kind::Cancel, Kind::Ping, Kind::Pong, Kind::Info] {
            let written = NoFields { extensions: extensions() };
            assert_eq!(NoFields::decode(kind, &framed(kind, &written)).unwrap(), written);
        }
    }
}
