//! What is computed, by the library itself, as people write it: everything it needs is allocated each time.

use std::hint::black_box;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Params, Version};
use sha2::Digest;

use crate::load::noise;

/// A job and its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Echo,
    Argon2 { memory_kib: u32, iterations: u32 },
    Zstd,
    Sha256,
    Blake3,
}

/// OWASP's first choice, and the default of `password-hash`.
pub(crate) const PASSWORD: Work = Work::Argon2 { memory_kib: 19 * 1024, iterations: 2 };

/// Memory of the job that stands for some milliseconds of computing: what the second cache of a core holds, so that
/// jobs beside each other do not slow each other down.
const BURN_MEMORY_KIB: u32 = 256;

impl Work {
    /// A job of as many passes over a small memory.
    pub(crate) const fn burn(iterations: u32) -> Self {
        Self::Argon2 { memory_kib: BURN_MEMORY_KIB, iterations }
    }

    /// Name, or name and numbers, with colons between: what `parse` reads, and what is asked for by HTTP and gearman.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Echo => "echo".to_owned(),
            Self::Argon2 { memory_kib, iterations } => format!("argon2-{memory_kib}-{iterations}"),
            Self::Zstd => "zstd".to_owned(),
            Self::Sha256 => "sha256".to_owned(),
            Self::Blake3 => "blake3".to_owned(),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        Some(match parts.next()? {
            "echo" => Self::Echo,
            "argon2" => Self::Argon2 {
                memory_kib: parts.next()?.parse().ok()?,
                iterations: parts.next()?.parse().ok()?,
            },
            "zstd" => Self::Zstd,
            "sha256" => Self::Sha256,
            "blake3" => Self::Blake3,
            _ => return None,
        })
    }

    pub(crate) fn run(self, input: &[u8]) -> Vec<u8> {
        match self {
            Self::Echo => input.to_vec(),
            Self::Argon2 { memory_kib, iterations } => {
                let params = Params::new(memory_kib, iterations, 1, None).expect("the costs are in range");
                let mut digest = vec![0; 32];
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(input, b"sixteen byte salt", &mut digest)
                    .expect("password and salt are short");
                digest
            }
            Self::Zstd => zstd::encode_all(input, 3).expect("no input is wrong for a compressor"),
            Self::Sha256 => sha2::Sha256::digest(input).to_vec(),
            Self::Blake3 => blake3::hash(input).as_bytes().to_vec(),
        }
    }

    /// The operation and parameters by which Windlass does the same. Digests come as bytes, as they do elsewhere.
    pub(crate) fn operation(self) -> (&'static str, Vec<(&'static str, String)>) {
        let of = |values: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
        };
        match self {
            Self::Echo => ("echo", Vec::new()),
            Self::Argon2 { memory_kib, iterations } => (
                "password-hash",
                vec![("memory", format!("{memory_kib}KiB")), ("iterations", iterations.to_string())],
            ),
            Self::Zstd => ("compress", of(&[("algorithm", "zstd"), ("level", "3")])),
            Self::Sha256 => ("hash", of(&[("algorithm", "sha256"), ("encoding", "raw")])),
            Self::Blake3 => ("hash", of(&[("algorithm", "blake3"), ("encoding", "raw")])),
        }
    }
}

/// Text that compresses about as well as source code does: words of a small vocabulary, the same in every run.
pub(crate) fn prose(length: usize) -> Vec<u8> {
    let noise = noise(length);
    let mut text = Vec::with_capacity(length + 16);
    let mut picks = noise.chunks_exact(2).cycle();
    while text.len() < length {
        let pick = picks.next().expect("a cycle does not end");
        // Short words often, long ones seldom: the product of two even numbers is mostly small.
        let word = usize::from(pick[0]) * usize::from(pick[1]) / 64;
        text.extend_from_slice(format!("w{:x} ", word * word % 4093).as_bytes());
        if pick[0] == 0 {
            text.push(b'\n');
        }
    }
    text.truncate(length);
    text
}

/// Runs jobs one after the other on as many threads for a while; jobs per second.
#[allow(clippy::cast_precision_loss, reason = "counts of jobs stay far below 2^52")]
pub(crate) fn raw_rate(work: Work, input: &[u8], threads: usize, duration: Duration) -> f64 {
    let run = || {
        black_box(work.run(black_box(input)));
        let began = Instant::now();
        let mut n_jobs = 0_u64;
        while began.elapsed() < duration {
            black_box(work.run(black_box(input)));
            n_jobs += 1;
        }
        n_jobs as f64 / began.elapsed().as_secs_f64()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|thread| thread.join().expect("a job does not panic")).sum()
    })
}

/// Passes after which [`Work::burn`] takes this long on a core of its own.
pub(crate) fn calibrate(target: Duration) -> u32 {
    const PROBE: u32 = 40;
    let times = (0..20).map(|_| {
        let began = Instant::now();
        black_box(Work::burn(PROBE).run(b"how long does this take"));
        began.elapsed()
    });
    let best = times.min().unwrap_or(target).max(Duration::from_micros(1));
    let passes = target.as_secs_f64() / best.as_secs_f64() * f64::from(PROBE);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just before")]
    let passes = passes.round().clamp(1.0, 1000.0) as u32;
    passes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_what_they_stand_for() {
        for work in [Work::Echo, PASSWORD, Work::burn(7), Work::Zstd, Work::Sha256, Work::Blake3] {
            assert_eq!(Work::parse(&work.name()), Some(work));
        }
        assert_eq!(Work::parse("argon2-8"), None);
    }

    #[test]
    fn prose_compresses_as_source_code_does() {
        let text = prose(64 << 10);
        let ratio = text.len() / Work::Zstd.run(&text).len();
        assert_eq!(text.len(), 64 << 10);
        assert!((2..=6).contains(&ratio), "{ratio}");
    }
}
