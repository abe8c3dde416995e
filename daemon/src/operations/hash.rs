//! `hash`: digests and checksums of the input.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::{BASE64, HEXLOWER};
use sha2::{Digest, Sha256, Sha512};
use sha3::Sha3_256;
use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy, Stop, StopCheck,
};
use xxhash_rust::xxh3::Xxh3;

use super::{SMALL_STRETCH, cpu_time};

/// What is digested between two looks at the stop flag: 1 ms of the slowest algorithm.
const CHUNK_BYTES: usize = 256 << 10;

/// Longest output, sha512 in hex, bytes.
const OUTPUT_BYTES_MAX: u64 = 128;

struct Hash {
    declaration: Declaration,
}

pub(super) fn declaration() -> Declaration {
    Declaration {
        name: "hash",
        about: "digest of the input",
        parameters: vec![
            Parameter {
                name: "algorithm",
                kind: ParameterKind::Choice(&["blake3", "sha256", "sha512", "sha3-256", "xxh3", "crc32c"]),
                default: Some("blake3".to_owned()),
                required: false,
                about: "xxh3 is its 64-bit variant; it and crc32c do not withstand forgery",
            },
            Parameter {
                name: "encoding",
                kind: ParameterKind::Choice(&["hex", "base64", "raw"]),
                default: Some("hex".to_owned()),
                required: false,
                about: "how the digest is written; numbers with the most significant byte first",
            },
        ],
        limits: Vec::new(),
        result: Resultant::TextUnless { parameter: "encoding", value: "raw" },
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: SMALL_STRETCH,
    }
}

pub(super) fn build(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(Hash { declaration })
}

fn algorithm(arguments: &Arguments) -> &'static str {
    arguments.choice("algorithm").expect("the parameter has a default")
}

fn feed(input: &[u8], stop: StopCheck<'_>, mut take: impl FnMut(&[u8])) -> Result<(), Stop> {
    for chunk in input.chunks(CHUNK_BYTES) {
        stop.check()?;
        take(chunk);
    }
    Ok(())
}

fn digest<D: Digest>(input: &[u8], stop: StopCheck<'_>) -> Result<Vec<u8>, Stop> {
    let mut hasher = D::new();
    feed(input, stop, |chunk| hasher.update(chunk))?;
    Ok(hasher.finalize().to_vec())
}

fn digest_of(algorithm: &str, input: &[u8], stop: StopCheck<'_>) -> Result<Vec<u8>, Stop> {
    match algorithm {
        "sha256" => digest::<Sha256>(input, stop),
        "sha512" => digest::<Sha512>(input, stop),
        "sha3-256" => digest::<Sha3_256>(input, stop),
        "xxh3" => {
            let mut hasher = Xxh3::new();
            feed(input, stop, |chunk| hasher.update(chunk))?;
            Ok(hasher.digest().to_be_bytes().to_vec())
        }
        "crc32c" => {
            let mut sum = 0;
            feed(input, stop, |chunk| sum = crc32c::crc32c_append(sum, chunk))?;
            Ok(sum.to_be_bytes().to_vec())
        }
        _ => {
            let mut hasher = blake3::Hasher::new();
            feed(input, stop, |chunk| {
                hasher.update(chunk);
            })?;
            Ok(hasher.finalize().as_bytes().to_vec())
        }
    }
}

impl Operation for Hash {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, arguments: &Arguments, input_bytes: u64) -> Result<Estimate, OperationError> {
        let picoseconds_per_byte = match algorithm(arguments) {
            "sha256" => 800,
            "sha512" => 2000,
            "sha3-256" => 2800,
            "xxh3" => 100,
            "crc32c" => 100,
            _ => 350,
        };
        Ok(Estimate {
            cpu: cpu_time(Duration::from_micros(1), input_bytes, picoseconds_per_byte),
            output_bytes: OUTPUT_BYTES_MAX,
            work_bytes: 0,
        })
    }

    fn run(
        &self,
        arguments: &Arguments,
        input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        let digest = digest_of(algorithm(arguments), input, context.stop)?;
        let written: Bytes = match arguments.choice("encoding") {
            Some("raw") => digest.into(),
            Some("base64") => BASE64.encode(&digest).into(),
            _ => HEXLOWER.encode(&digest).into(),
        };
        Ok(written.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use windlass_actors::operation::run_alone;

    use super::*;

    fn hash(algorithm: &str, encoding: &str, input: &[u8]) -> Vec<u8> {
        let parameters = [("algorithm", algorithm), ("encoding", encoding)];
        let deadline = Instant::now() + Duration::from_secs(60);
        run_alone(&*build(declaration()), &parameters, input.to_vec(), deadline).unwrap().0.to_vec()
    }

    fn hex(algorithm: &str, input: &[u8]) -> String {
        String::from_utf8(hash(algorithm, "hex", input)).unwrap()
    }

    /// The input of the official BLAKE3 test vectors.
    fn counting(length: usize) -> Vec<u8> {
        (0..=250).cycle().take(length).collect()
    }

    #[test]
    fn digests_equal_the_published_vectors() {
        // FIPS 180-4 and FIPS 202 examples; BLAKE3 test_vectors.json; RFC 3720 B.4; xxHash sanity tests.
        let rising: Vec<u8> = (0..32).collect();
        let vectors: &[(&str, &[u8], &str)] = &[
            ("sha256", b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("sha256", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            (
                "sha256",
                b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
            ),
            (
                "sha512",
                b"abc",
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
                 2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            ),
            ("sha3-256", b"", "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a"),
            ("sha3-256", b"abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
            ("blake3", b"", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            ("blake3", &[0], "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213"),
            (
                "blake3",
                &counting(102_400),
                "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
            ),
            ("crc32c", b"", "00000000"),
            ("crc32c", b"123456789", "e3069283"),
            ("crc32c", &[0; 32], "8a9136aa"),
            ("crc32c", &[0xff; 32], "62a8ab43"),
            ("crc32c", &rising, "46dd794e"),
            ("xxh3", b"", "2d06800538d394c2"),
            ("xxh3", b"abc", "78af5f94892f3950"),
        ];
        for (algorithm, input, expected) in vectors {
            assert_eq!(hex(algorithm, input), *expected, "{algorithm} of {} bytes", input.len());
        }
    }

    #[test]
    fn a_million_times_the_letter_a_crosses_chunks() {
        let input = vec![b'a'; 1_000_000];
        assert_eq!(hex("sha256", &input), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
        assert_eq!(hex("crc32c", &input), format!("{:08x}", crc32c::crc32c(&input)));
        assert_eq!(hex("xxh3", &input), format!("{:016x}", xxhash_rust::xxh3::xxh3_64(&input)));
        assert_eq!(hex("blake3", &input), blake3::hash(&input).to_hex().as_str());
    }

    #[test]
    fn encodings_write_the_same_bytes() {
        assert_eq!(hash("crc32c", "raw", b"123456789"), [0xe3, 0x06, 0x92, 0x83]);
        assert_eq!(hash("crc32c", "base64", b"123456789"), b"4waSgw==");
    }

    #[test]
    fn blake3_and_hex_are_the_defaults() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let output = run_alone(&*build(declaration()), &[], b"abc".to_vec(), deadline).unwrap();
        assert_eq!(output.0, hex("blake3", b"abc"));
    }

    #[test]
    fn a_deadline_in_the_past_stops_a_large_input() {
        for algorithm in ["blake3", "sha256", "sha512", "sha3-256", "xxh3", "crc32c"] {
            let ended = run_alone(
                &*build(declaration()),
                &[("algorithm", algorithm)],
                vec![0; 4 << 20],
                Instant::now(),
            );
            assert_eq!(ended, Err(OperationError::Stopped(Stop::DeadlineExceeded)), "{algorithm}");
        }
    }
}
