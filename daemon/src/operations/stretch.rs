//! How long operations go without a look at their stop flag: what the catalogue promises, measured.
//!
//! In CPU time of the thread, on the inputs that are hardest on each: large ones that compress badly or far too well,
//! highest levels, costs at their caps. CPU time contains what the machine adds (interrupts, cores that a hypervisor
//! took away), so of a stretch that seems too long the shortest of several runs counts: between the same looks an
//! operation does the same each time. What the catalogue promises is of a machine like those that servers are; how much
//! slower this one is, and whoever shares it makes it, a walk through memory tells before and after each run.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use windlass_actors::operation::{Arguments, Operation, run_in_peace, stretches};

use super::{build, declared};

const MIB: usize = 1 << 20;

/// How often a stretch is measured that seems too long.
const RUNS_MAX: usize = 5;

/// The walk, in words and in turns, and what it takes on the machine that the estimates are of.
const WALK: (usize, usize) = (2 << 20, 4);
const WALK_TAKES: Duration = Duration::from_micros(8300);

/// A machine that is slower than this is no place to measure promises, and its stretches fail.
const SLOWNESS_MAX: f64 = 4.0;

/// Held by whoever measures: beside each other, they would measure each other.
static MEASURING: Mutex<()> = Mutex::new(());

fn operation(name: &str) -> std::sync::Arc<dyn Operation> {
    build(declared().into_iter().find(|declaration| declaration.name == name).unwrap())
}

/// Bytes that nothing compresses.
fn noise(n: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    (0..n).map(|_| rng.u8(..)).collect()
}

/// Something like text.
fn text(n: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(7);
    let words: Vec<Vec<u8>> =
        (0..2000).map(|_| (0..rng.usize(2..10)).map(|_| rng.u8(b'a'..=b'z')).collect()).collect();
    let mut text = Vec::with_capacity(n + 16);
    while text.len() < n {
        text.extend(&words[rng.usize(..words.len())]);
        text.push(b' ');
    }
    text.truncate(n);
    text
}

/// How many times as long as on the machine of the estimates something takes here and now, at least 1.
fn slowness() -> f64 {
    let begun_at = cpu_time_of_thread();
    let (words, turns) = WALK;
    let mut memory = vec![0_u64; words];
    let mut last = 1_u64;
    for _ in 0..turns {
        for word in &mut memory {
            last = (last ^ *word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
            *word = last;
        }
    }
    std::hint::black_box(memory);
    (cpu_time_of_thread() - begun_at).div_duration_f64(WALK_TAKES).clamp(1.0, SLOWNESS_MAX)
}

fn cpu_time_of_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}

#[track_caller]
fn assert_within_its_stretch(name: &str, parameters: &[(&str, &str)], input: Vec<u8>) {
    let operation = operation(name);
    let (n, promised) = (input.len(), operation.declaration().stretch_max);
    let _alone = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        let before = slowness();
        let stretches = stretches(&*operation, parameters, input.clone()).unwrap();
        let slowness = before.min(slowness());
        stretches.into_iter().map(move |stretch| stretch.div_f64(slowness))
    };
    let mut shortest: Vec<Duration> = run().collect();
    for _ in 1..RUNS_MAX {
        if shortest.iter().all(|stretch| *stretch <= promised) {
            break;
        }
        shortest.iter_mut().zip(run()).for_each(|(shortest, stretch)| *shortest = stretch.min(*shortest));
    }
    let longest = shortest.into_iter().max().unwrap();
    assert!(
        longest <= promised,
        "{name} {parameters:?} of {n} bytes ran for {longest:?} without a look; its catalogue entry says {promised:?}"
    );
}

#[test]
fn hashes() {
    for algorithm in ["blake3", "sha256", "sha512", "sha3-256", "xxh3", "crc32c"] {
        assert_within_its_stretch("hash", &[("algorithm", algorithm)], noise(32 * MIB));
    }
}

#[test]
fn echo_and_spin() {
    assert_within_its_stretch("echo", &[], noise(32 * MIB));
    assert_within_its_stretch("spin", &[("for", "50ms")], Vec::new());
}

#[test]
fn compression_at_the_highest_levels() {
    for (algorithm, level, n) in
        [("zstd", "19", 8 * MIB), ("gzip", "9", 16 * MIB), ("brotli", "11", 2 * MIB), ("lz4", "", 32 * MIB)]
    {
        let both = [("algorithm", algorithm), ("level", level)];
        let parameters = if level.is_empty() { &both[..1] } else { &both[..] };
        for input in [noise(n), text(n), vec![0; n]] {
            assert_within_its_stretch("compress", parameters, input);
        }
    }
}

#[test]
fn decompression_of_what_grows_much_and_of_what_does_not() {
    let compress = operation("compress");
    for algorithm in ["zstd", "gzip", "brotli", "lz4"] {
        let parameters = [("algorithm", algorithm)];
        for input in [noise(16 * MIB), text(16 * MIB), vec![0; 8 * MIB]] {
            let packed = run_in_peace(&*compress, &parameters, input).unwrap();
            assert_within_its_stretch("decompress", &parameters, packed.0.to_vec());
        }
    }
}

/// The costs are raised until the cap refuses them.
#[test]
fn passwords_at_the_cap_of_their_costs() {
    let operation = operation("password-hash");
    for (algorithm, fixed, raised, from) in [
        ("argon2id", ("memory", "64MiB"), "iterations", 1..=64),
        ("scrypt", ("block-size", "8"), "log-n", 10..=20),
        ("bcrypt", ("parallelism", "1"), "cost", 4..=16),
    ] {
        let costs: Vec<String> = from.map(|cost| cost.to_string()).collect();
        let with = |cost: &String| {
            let given = [("algorithm", algorithm), fixed, (raised, cost.as_str())];
            let arguments = Arguments::check(operation.declaration(), &given).ok()?;
            operation.estimate(&arguments, 8).ok()
        };
        let most = costs.iter().rev().find(|cost| with(cost).is_some()).unwrap();
        let parameters = [("algorithm", algorithm), fixed, (raised, most.as_str())];
        assert_within_its_stretch("password-hash", &parameters, b"password".to_vec());
    }
}
