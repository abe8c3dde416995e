//! Real input: what comes out is what the usual tools make of the same bytes, in both directions.

use windlass_protocol::Kind;
use windlass_tests::{Daemon, Sample, raw, repository, run, sample, samples, tool, windlass};

/// Sizes around what is read, digested and compressed in one piece.
const SIZES: [usize; 6] = [0, 1, 1000, 65_535, 65_537, (1 << 20) + 7];

/// What is compared here is results, so workers do not stand back behind other tests as they usually would.
const UNHURRIED: [(&str, &str); 2] = [("cpu.nice", "0"), ("timeouts.deadline_default", "10m")];

/// Inputs above this are not compressed at high levels, which take their time.
const HARD_BYTES_MAX: usize = 100_000;

/// The largest body of the defaults.
const LARGEST: usize = 64 << 20;

const HASHES: [&str; 6] = ["sha256", "sha512", "blake3", "xxh3", "sha3-256", "crc32c"];

const SHA3_256: &str = "import hashlib, sys; print(hashlib.sha3_256(sys.stdin.buffer.read()).hexdigest())";

/// A format, and how its own tool is used.
struct Compressor {
    /// Its name, here and there.
    name: &'static str,
    /// Makes the tool restore.
    restore: &'static [&'static str],
    /// Makes the tool compress.
    compress: &'static [&'static str],
    /// A usual level and a high one, for the tool.
    levels: [&'static str; 2],
    /// A high one, here.
    level: &'static str,
    /// Whether it takes less than a second for the largest body, whatever is in it.
    is_quick: bool,
    /// Whether several of its streams in a row are one file.
    concatenates: bool,
}

const COMPRESSORS: [Compressor; 4] = [
    Compressor {
        name: "zstd",
        restore: &["-q", "-d", "-c"],
        compress: &["-q", "-c"],
        levels: ["-3", "-19"],
        level: "19",
        is_quick: true,
        concatenates: true,
    },
    Compressor {
        name: "gzip",
        restore: &["-d", "-c"],
        compress: &["-c"],
        levels: ["-6", "-9"],
        level: "9",
        is_quick: false,
        concatenates: true,
    },
    // A brotli stream says where it ends, and nothing may follow.
    Compressor {
        name: "brotli",
        restore: &["-d", "-c"],
        compress: &["-c"],
        levels: ["-5", "--best"],
        level: "11",
        is_quick: false,
        concatenates: false,
    },
    Compressor {
        name: "lz4",
        restore: &["-q", "-d", "-c"],
        compress: &["-q", "-z", "-c"],
        levels: ["-1", "-9"],
        level: "1",
        is_quick: true,
        concatenates: true,
    },
];

impl Compressor {
    /// What the tool makes of `input`, if it is here.
    #[track_caller]
    fn restores(&self, input: &[u8]) -> Option<Vec<u8>> {
        Some(run(tool(self.name)?.args(self.restore), input).ok().stdout)
    }

    #[track_caller]
    fn compresses(&self, level: &str, input: &[u8]) -> Option<Vec<u8>> {
        Some(run(tool(self.name)?.args(self.compress).arg(level), input).ok().stdout)
    }
}

/// One connection, one request after the other.
struct Asking {
    connection: raw::Raw,
    id: u64,
}

impl Asking {
    fn open(daemon: &Daemon) -> Self {
        Self { connection: raw::Raw::open(daemon.host_port()), id: 0 }
    }

    #[track_caller]
    fn ask(&mut self, operation: &str, parameters: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
        self.id += 1;
        self.connection.send(&raw::work(self.id, operation, parameters, body));
        let answer = self.connection.frame().unwrap();
        assert_eq!((answer.kind, answer.id), (Kind::Reply, self.id), "{operation}: {:?}", answer.failure());
        answer.body
    }

    #[track_caller]
    fn text(&mut self, operation: &str, parameters: &[(&str, &str)], body: &[u8]) -> String {
        String::from_utf8(self.ask(operation, parameters, body)).unwrap()
    }
}

/// The first word of what a tool prints about its standard input that is a digest of so many hex digits.
#[track_caller]
fn printed_digest(name: &str, arguments: &[&str], digits: usize, input: &[u8]) -> Option<String> {
    let ran = run(tool(name)?.args(arguments), input).ok();
    let word = ran.text().split_whitespace().map(|word| word.trim_start_matches("XXH3_"));
    let is_digest = |word: &&str| word.len() == digits && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(word.clone().find(is_digest).unwrap_or_else(|| panic!("{name}: {}", ran.text())).to_lowercase())
}

/// The digest that an independent implementation makes, if it is here.
#[track_caller]
fn independent_digest(algorithm: &str, input: &[u8]) -> Option<String> {
    match algorithm {
        "sha256" => printed_digest("sha256sum", &[], 64, input),
        "sha512" => printed_digest("sha512sum", &[], 128, input),
        "blake3" => printed_digest("b3sum", &["--no-names"], 64, input),
        "xxh3" => printed_digest("xxhsum", &["-H3"], 16, input),
        "sha3-256" => printed_digest("python3", &["-c", SHA3_256], 64, input),
        _ => printed_digest("rhash", &["--simple", "--crc32c", "-"], 8, input),
    }
}

#[test]
fn every_hash_is_that_of_an_independent_tool() {
    let daemon = Daemon::start(&UNHURRIED);
    let mut asking = Asking::open(&daemon);
    for Sample { name, bytes } in samples(&SIZES) {
        for algorithm in HASHES {
            let digest = asking.text("hash", &[("algorithm", algorithm)], &bytes);
            if let Some(expected) = independent_digest(algorithm, &bytes) {
                assert_eq!(digest, expected, "{algorithm} of {name}");
            }
        }
    }
}

#[test]
fn the_hashes_of_the_largest_body_are_those_of_independent_tools() {
    let daemon = Daemon::start(&UNHURRIED);
    let mut asking = Asking::open(&daemon);
    let bytes = sample("compressed", LARGEST).bytes;
    for algorithm in HASHES {
        let digest = asking.text("hash", &[("algorithm", algorithm)], &bytes);
        if let Some(expected) = independent_digest(algorithm, &bytes) {
            assert_eq!(digest, expected, "{algorithm}");
        }
    }
}

/// The output is restored by the tool and by us, and so is the tool's.
#[track_caller]
fn there_and_back(asking: &mut Asking, compressor: &Compressor, name: &str, bytes: &[u8]) {
    let algorithm = ("algorithm", compressor.name);
    let ours = asking.ask("compress", &[algorithm], bytes);
    assert!(asking.ask("decompress", &[algorithm], &ours) == bytes, "{name}, {algorithm:?}");
    if let Some(restored) = compressor.restores(&ours) {
        assert!(restored == bytes, "{name}: what the tool restores of ours, {algorithm:?}");
    }
    if let Some(theirs) = compressor.compresses(compressor.levels[0], bytes) {
        let restored = asking.ask("decompress", &[algorithm], &theirs);
        assert!(restored == bytes, "{name}: what we restore of the tool's, {algorithm:?}");
    }
}

/// The same at a high level and, where the format has that, with two members in one file.
#[track_caller]
fn hard_and_twice(asking: &mut Asking, compressor: &Compressor, name: &str, bytes: &[u8]) {
    let algorithm = ("algorithm", compressor.name);
    let mut ours = asking.ask("compress", &[algorithm, ("level", compressor.level)], bytes);
    let Some(mut theirs) = compressor.compresses(compressor.levels[1], bytes) else { return };
    let mut expected = bytes.to_vec();
    if compressor.concatenates {
        ours.extend(asking.ask("compress", &[algorithm], bytes));
        theirs.extend(compressor.compresses(compressor.levels[0], bytes).expect("the tool was there"));
        expected.extend(bytes);
        assert!(asking.ask("decompress", &[], &theirs) == expected, "{name}, format not told");
    }
    let restored = compressor.restores(&ours).expect("the tool was there");
    assert!(restored == expected, "{name}: what the tool restores of ours, {algorithm:?}");
    let restored = asking.ask("decompress", &[algorithm], &theirs);
    assert!(restored == expected, "{name}: what we restore of the tool's, {algorithm:?}");
}

#[test]
fn what_is_compressed_is_restored_by_the_usual_tools_and_theirs_by_us() {
    let daemon = Daemon::start(&UNHURRIED);
    let mut asking = Asking::open(&daemon);
    for Sample { name, bytes } in samples(&SIZES) {
        for compressor in &COMPRESSORS {
            there_and_back(&mut asking, compressor, &name, &bytes);
            if bytes.len() < HARD_BYTES_MAX {
                hard_and_twice(&mut asking, compressor, &name, &bytes);
            }
        }
    }
}

#[test]
fn the_largest_body_is_compressed_and_restored() {
    let daemon = Daemon::start(&UNHURRIED);
    let mut asking = Asking::open(&daemon);
    // The slower two get the input that is the quickest.
    for kind in ["text", "zeros"] {
        let Sample { name, bytes } = sample(kind, LARGEST);
        for compressor in COMPRESSORS.iter().filter(|compressor| compressor.is_quick == (kind == "text")) {
            there_and_back(&mut asking, compressor, &name, &bytes);
        }
    }
}

/// What cannot be compressed grows by a few bytes, and is answered all the same.
#[test]
fn the_largest_body_is_compressed_on_the_defaults_also_where_it_grows() {
    let daemon = Daemon::start(&UNHURRIED);
    let mut connection = raw::Raw::open(daemon.host_port());
    let Sample { bytes, .. } = sample("random", LARGEST);
    connection.send(&raw::work_within(1, "compress", &[("level", "1")], Some(600_000), &bytes));
    let reply = connection.frame().unwrap();
    assert_eq!(reply.kind, Kind::Reply, "{:?}", reply.failure());
    assert!(reply.body.len() > LARGEST);
    if let Some(mut zstd) = tool("zstd") {
        assert!(run(zstd.arg("-dc"), &reply.body).ok().stdout == bytes, "zstd restores it");
    }
}

/// To be sent back, it needs that room as a request.
#[test]
fn the_largest_body_that_does_not_compress_needs_a_little_room_to_be_restored() {
    let daemon = Daemon::start(&[UNHURRIED[0], UNHURRIED[1], ("limits.body", "65MiB")]);
    let mut asking = Asking::open(&daemon);
    let Sample { name, bytes } = sample("random", LARGEST);
    for compressor in COMPRESSORS.iter().filter(|compressor| compressor.is_quick) {
        there_and_back(&mut asking, compressor, &name, &bytes);
    }
}

#[test]
fn the_client_program_prints_what_sha256sum_prints() {
    let daemon = Daemon::start(&UNHURRIED);
    let file = repository().join("Cargo.lock");
    let file = file.to_str().unwrap();
    let ours = windlass(daemon.address(), &["call", "hash", "-p", "algorithm=sha256", file], b"").ok();
    assert!(ours.text().ends_with(&format!("  {file}\n")), "{}", ours.text());
    if let Some(mut sha256sum) = tool("sha256sum") {
        assert_eq!(ours.text(), run(sha256sum.arg(file), b"").ok().text());
    }
}
