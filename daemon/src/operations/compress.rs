//! `compress`: zstd, gzip, brotli and LZ4 streams that the usual tools restore.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy, StopCheck, WorkArea,
};
use zstd::zstd_safe::{CCtx, CParameter, ResetDirective};

use super::{AREA_BYTES_KEPT_MAX, SMALL_STRETCH, cpu_time};

/// What zstd does in one call without a look at the stop flag, by estimate: half of what one stretch may be, for
/// machines that are slower than the estimate's.
const ONE_CALL_MAX: Duration = SMALL_STRETCH.checked_div(2).expect("two is not zero");

/// What is given to a compressor between two looks at the stop flag.
const CHUNK_BYTES: usize = 64 << 10;

/// The same for gzip, which works on what it is given at once and can spend 3 µs on a byte.
const GZIP_CHUNK_BYTES: usize = 16 << 10;

/// Brotli qualities from here on collect what they know of a block and spend long on it at its end, so that
/// blocks are ended by hand.
const BROTLI_SLOW_QUALITY: u32 = 10;

/// Logarithm of what brotli works on in one piece. The library's choice of 18 is 350 ms of its slowest
/// quality; this is a quarter of that.
const BROTLI_BLOCK_LOG: i32 = 16;

/// What brotli's slow qualities take in before their block is ended.
const BROTLI_SLOW_BLOCK_BYTES: usize = 256 << 10;

/// Levels of an algorithm.
struct Levels {
    algorithm: &'static str,
    min: u32,
    default: u32,
    max: u32,
}

/// zstd ends before its "ultra" levels, whose windows take hundreds of megabytes.
const LEVELS: [Levels; 4] = [
    Levels { algorithm: "zstd", min: 1, default: 3, max: 19 },
    Levels { algorithm: "gzip", min: 1, default: 6, max: 9 },
    Levels { algorithm: "brotli", min: 0, default: 5, max: 11 },
    Levels { algorithm: "lz4", min: 1, default: 1, max: 1 },
];

struct Compress {
    declaration: Declaration,
}

/// The zstd context that a worker keeps.
struct ZstdArea(CCtx<'static>);

impl WorkArea for ZstdArea {
    fn new() -> Self {
        Self(CCtx::create())
    }

    fn bytes(&self) -> u64 {
        self.0.sizeof() as u64
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

pub(super) fn declaration() -> Declaration {
    Declaration {
        name: "compress",
        about: "the input, compressed",
        parameters: vec![
            Parameter {
                name: "algorithm",
                kind: ParameterKind::Choice(&["zstd", "gzip", "brotli", "lz4"]),
                default: Some("zstd".to_owned()),
                required: false,
                about: "the format; lz4 writes LZ4 frames",
            },
            Parameter {
                name: "level",
                kind: ParameterKind::Integer { min: 0, max: 19 },
                default: None,
                required: false,
                about: "higher is smaller and slower: zstd 1 to 19 (3 if not given), gzip 1 to 9 (6), \
                        brotli 0 to 11 (5), lz4 1",
            },
        ],
        limits: Vec::new(),
        result: Resultant::Binary,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: Duration::from_millis(500),
    }
}

pub(super) fn build(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(Compress { declaration })
}

/// Algorithm and level, checked against each other.
fn chosen(arguments: &Arguments) -> Result<(&'static str, u32), OperationError> {
    let algorithm = arguments.choice("algorithm").expect("the parameter has a default");
    let levels = LEVELS
        .iter()
        .find(|levels| levels.algorithm == algorithm)
        .expect("every declared algorithm has its levels");
    match arguments.integer("level") {
        None => Ok((algorithm, levels.default)),
        Some(level) => u32::try_from(level)
            .ok()
            .filter(|level| (levels.min..=levels.max).contains(level))
            .map(|level| (algorithm, level))
            .ok_or_else(|| {
                OperationError::InvalidParameter(format!(
                    "parameter 'level': '{level}' is outside {} to {}, the levels of {algorithm}",
                    levels.min, levels.max
                ))
            }),
    }
}

/// Most that a stream of `input_bytes` can become, bytes.
fn bound(algorithm: &str, input_bytes: u64) -> u64 {
    let overhead = match algorithm {
        // The quickest level writes a literal in up to nine bits.
        "gzip" => input_bytes / 8,
        _ => input_bytes / 128,
    };
    input_bytes + overhead + 1024
}

/// The binary logarithm of the window that brotli needs for an input.
fn brotli_window_log(input_bytes: u64) -> u32 {
    (u64::BITS - input_bytes.saturating_add(16).leading_zeros()).clamp(16, 22)
}

/// The input, and what is asked after each chunk of it.
struct Feed<'a, 'b> {
    input: &'a [u8],
    stop: StopCheck<'b>,
}

impl Feed<'_, '_> {
    fn write_to(&self, encoder: &mut impl Write, chunk_bytes: usize) -> Result<(), OperationError> {
        for chunk in self.input.chunks(chunk_bytes) {
            self.stop.check()?;
            encoder.write_all(chunk).map_err(failed)?;
        }
        Ok(self.stop.check()?)
    }
}

/// No input is wrong for a compressor.
fn failed(error: impl Into<io::Error>) -> OperationError {
    OperationError::Internal(format!("the compressor failed: {}", error.into()))
}

/// In one call, straight from the input into the output, where that is over in a moment; else the library copies what
/// it is given in chunks, and what it makes of them, through buffers of its own.
fn zstd_stream(
    level: u32,
    feed: &Feed<'_, '_>,
    mut output: Vec<u8>,
    area: &mut ZstdArea,
) -> Result<Vec<u8>, OperationError> {
    let code = |code| failed(io::Error::other(zstd::zstd_safe::get_error_name(code)));
    let input_bytes = feed.input.len() as u64;
    let context = &mut area.0;
    context.reset(ResetDirective::SessionAndParameters).map_err(code)?;
    let signed = i32::try_from(level).expect("levels are small");
    context.set_parameter(CParameter::CompressionLevel(signed)).map_err(code)?;
    context.set_parameter(CParameter::ChecksumFlag(true)).map_err(code)?;
    if cpu_time(Duration::ZERO, input_bytes, picoseconds_per_byte("zstd", level)) <= ONE_CALL_MAX {
        feed.stop.check()?;
        context.compress2(&mut output, feed.input).map_err(code)?;
    } else {
        let mut encoder = zstd::stream::write::Encoder::with_context(output, context);
        encoder.set_pledged_src_size(Some(input_bytes)).map_err(failed)?;
        feed.write_to(&mut encoder, CHUNK_BYTES)?;
        output = encoder.finish().map_err(failed)?;
    }
    if area.bytes() > AREA_BYTES_KEPT_MAX {
        *area = ZstdArea::new();
    }
    Ok(output)
}

fn gzip_stream(level: u32, feed: &Feed<'_, '_>, output: Vec<u8>) -> Result<Vec<u8>, OperationError> {
    let mut encoder = GzEncoder::new(output, Compression::new(level));
    feed.write_to(&mut encoder, GZIP_CHUNK_BYTES)?;
    encoder.finish().map_err(failed)
}

fn brotli_stream(level: u32, feed: &Feed<'_, '_>, output: Vec<u8>) -> Result<Vec<u8>, OperationError> {
    let parameters = BrotliEncoderParams {
        quality: i32::try_from(level).expect("levels are small"),
        lgwin: brotli_window_log(feed.input.len() as u64).cast_signed(),
        lgblock: BROTLI_BLOCK_LOG,
        size_hint: feed.input.len(),
        ..BrotliEncoderParams::default()
    };
    let mut encoder = CompressorWriter::with_params(output, CHUNK_BYTES, &parameters);
    let block_bytes = if level >= BROTLI_SLOW_QUALITY { BROTLI_SLOW_BLOCK_BYTES } else { usize::MAX };
    let mut blocks = feed.input.chunks(block_bytes).peekable();
    while let Some(input) = blocks.next() {
        Feed { input, stop: feed.stop }.write_to(&mut encoder, CHUNK_BYTES)?;
        if blocks.peek().is_some() {
            encoder.flush().map_err(failed)?;
        }
    }
    Ok(encoder.into_inner())
}

fn lz4_stream(feed: &Feed<'_, '_>, output: Vec<u8>) -> Result<Vec<u8>, OperationError> {
    let block_size = if feed.input.len() > 64 << 10 { BlockSize::Max1MB } else { BlockSize::Max64KB };
    let frame = FrameInfo::new()
        .block_size(block_size)
        .block_mode(BlockMode::Linked)
        .content_size(Some(feed.input.len() as u64))
        .content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(frame, output);
    feed.write_to(&mut encoder, CHUNK_BYTES)?;
    encoder.finish().map_err(failed)
}

impl Operation for Compress {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, arguments: &Arguments, input_bytes: u64) -> Result<Estimate, OperationError> {
        let (algorithm, level) = chosen(arguments)?;
        Ok(Estimate {
            cpu: cpu_time(Duration::from_micros(20), input_bytes, picoseconds_per_byte(algorithm, level)),
            output_bytes: bound(algorithm, input_bytes),
            work_bytes: work_bytes(algorithm, level, input_bytes),
        })
    }

    fn run(
        &self,
        arguments: &Arguments,
        input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        let (algorithm, level) = chosen(arguments)?;
        let feed = Feed { input, stop: context.stop };
        let bound = bound(algorithm, input.len() as u64);
        // Room that is not written to is not resident, and is given back below.
        let output = Vec::with_capacity(usize::try_from(bound).unwrap_or(0));
        let mut output = match algorithm {
            "gzip" => gzip_stream(level, &feed, output)?,
            "brotli" => brotli_stream(level, &feed, output)?,
            "lz4" => lz4_stream(&feed, output)?,
            _ => zstd_stream(level, &feed, output, context.areas.area())?,
        };
        context.output.reserve(output.len() as u64)?;
        output.shrink_to_fit();
        Ok(output.into())
    }
}

/// Measured on megabytes of source text, in a release build on one core of 2020; noise takes about as long.
fn picoseconds_per_byte(algorithm: &str, level: u32) -> u64 {
    const ZSTD: [u64; 19] = [
        2_200, 2_500, 3_000, 3_300, 5_800, 8_000, 10_000, 12_500, 15_000, 21_000, 21_000, 21_000, 86_000,
        108_000, 123_000, 212_000, 212_000, 251_000, 272_000,
    ];
    const GZIP: [u64; 9] = [3_200, 4_800, 5_600, 7_000, 7_700, 10_000, 15_000, 29_000, 29_000];
    const BROTLI: [u64; 12] =
        [4_000, 4_000, 7_000, 8_000, 25_000, 25_000, 52_000, 52_000, 60_000, 60_000, 550_000, 1_150_000];
    let of = |table: &[u64], min: u32| {
        let place = usize::try_from(level - min).expect("a level is small");
        table[place]
    };
    match algorithm {
        "gzip" => of(&GZIP, 1),
        "brotli" => of(&BROTLI, 0),
        "lz4" => 2_600,
        _ => of(&ZSTD, 1),
    }
}

/// Memory of a compressor, bytes.
fn work_bytes(algorithm: &str, level: u32, input_bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    match algorithm {
        "gzip" => 384 << 10,
        "brotli" => {
            let window = 1 << brotli_window_log(input_bytes);
            let hasher = match level {
                0..=4 => MIB,
                // Buckets of four bytes: 2^14 or 2^15 times 2^(level - 1).
                5..=6 => (4 << 14) << (level - 1),
                7..=9 => (4 << 15) << (level - 1),
                _ => 8 * window + 8 * MIB,
            };
            2 * window + hasher + MIB
        }
        "lz4" if input_bytes <= 64 << 10 => 384 << 10,
        "lz4" => 4 * MIB,
        _ => {
            // What ZSTD_sizeof_CCtx says for an input of 64 MiB, KiB.
            const ZSTD: [u64; 19] = [
                1_337, 2_041, 3_577, 4_857, 5_369, 5_369, 7_929, 7_929, 15_097, 25_337, 25_337, 45_817,
                37_625, 54_009, 70_393, 37_771, 58_251, 58_880, 91_648,
            ];
            let place = usize::try_from(level - 1).expect("a level is small");
            ((ZSTD[place] + 64) << 10).min(input_bytes.saturating_mul(18).saturating_add(MIB + (256 << 10)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use windlass_actors::operation::{Stop, run_alone};

    use super::*;

    fn compress(algorithm: &str, level: &str, input: &[u8]) -> Result<Output, OperationError> {
        let deadline = Instant::now() + Duration::from_secs(120);
        let parameters = [("algorithm", algorithm), ("level", level)];
        run_alone(&*build(declaration()), &parameters, input.to_vec(), deadline)
    }

    #[test]
    fn levels_outside_those_of_the_algorithm_are_refused_before_the_body_is_read() {
        let operation = build(declaration());
        for (algorithm, level, allowed) in [
            ("zstd", "0", false),
            ("zstd", "1", true),
            ("zstd", "19", true),
            ("gzip", "0", false),
            ("gzip", "9", true),
            ("gzip", "10", false),
            ("brotli", "0", true),
            ("brotli", "11", true),
            ("brotli", "12", false),
            ("lz4", "1", true),
            ("lz4", "2", false),
        ] {
            let given = [("algorithm", algorithm), ("level", level)];
            let arguments = Arguments::check(operation.declaration(), &given).unwrap();
            let estimated = operation.estimate(&arguments, 1 << 20);
            assert_eq!(estimated.is_ok(), allowed, "{algorithm} {level}: {estimated:?}");
            if let Err(error) = estimated {
                assert!(matches!(error, OperationError::InvalidParameter(_)));
                assert!(error.to_string().contains(algorithm));
            }
        }
        for level in ["-1", "20", "many"] {
            assert!(Arguments::check(operation.declaration(), &[("level", level)]).is_err());
        }
    }

    #[test]
    fn no_output_is_larger_than_its_estimate() {
        // Bytes that take nine bits in the fixed code of deflate, the worst that can be asked of a
        // compressor.
        let noise: Vec<u8> = (0..200_000).map(|_| fastrand::u8(144..)).collect();
        for levels in &LEVELS {
            for level in [levels.min, levels.default, levels.max] {
                for length in [0, 1, 1000, noise.len()] {
                    let output = compress(levels.algorithm, &level.to_string(), &noise[..length]).unwrap();
                    let bound = bound(levels.algorithm, length as u64);
                    assert!(
                        output.0.len() as u64 <= bound,
                        "{} {level}: {length} bytes became {}, over {bound}",
                        levels.algorithm,
                        output.0.len()
                    );
                }
            }
        }
    }

    #[test]
    fn every_level_has_an_estimate() {
        for levels in &LEVELS {
            for level in levels.min..=levels.max {
                assert!(picoseconds_per_byte(levels.algorithm, level) > 0);
                assert!(work_bytes(levels.algorithm, level, u64::MAX / 4) > 0);
            }
        }
    }

    #[test]
    fn the_estimate_of_zstd_covers_its_context() {
        for (level, length) in [(1, 1 << 20), (3, 64 << 10), (9, 1 << 20), (19, 64 << 10), (12, 1 << 20)] {
            let input = vec![7; length];
            let mut area = ZstdArea::new();
            area.0.reset(ResetDirective::SessionAndParameters).unwrap();
            let mut encoder = zstd::stream::write::Encoder::with_context(io::sink(), &mut area.0);
            encoder.set_parameter(CParameter::CompressionLevel(level)).unwrap();
            encoder.set_pledged_src_size(Some(length as u64)).unwrap();
            encoder.write_all(&input).unwrap();
            encoder.finish().unwrap();
            let estimated = work_bytes("zstd", level.cast_unsigned(), length as u64);
            assert!(area.bytes() <= estimated, "level {level}: {} over {estimated}", area.bytes());
        }
    }

    #[test]
    fn zstd_writes_the_same_kind_of_frame_in_one_call_and_in_many() {
        let one_call_bytes_max = |level| {
            let in_time = |bytes: u64| {
                cpu_time(Duration::ZERO, bytes, picoseconds_per_byte("zstd", level)) <= ONE_CALL_MAX
            };
            (0..40).map(|log| 1_u64 << log).take_while(|bytes| in_time(*bytes)).last().unwrap()
        };
        for level in [1, 3, 19] {
            let most = usize::try_from(one_call_bytes_max(level)).unwrap();
            assert!(most >= 8 << 10, "level {level}: {most}");
            for length in [0, 1, most, 2 * most] {
                let input: Vec<u8> =
                    b"the same input, nearly ".iter().copied().cycle().take(length).collect();
                let output = compress("zstd", &level.to_string(), &input).unwrap().0;
                // RFC 8878, 3.1.1.1.1: bit 2 says that a checksum follows.
                assert_eq!(output[4] & 4, 4, "level {level}, {length} bytes");
                let told = zstd::zstd_safe::get_frame_content_size(&output);
                assert_eq!(told.unwrap(), Some(length as u64), "level {level}");
                assert_eq!(zstd::decode_all(&*output).unwrap(), input, "level {level}");
            }
        }
    }

    #[test]
    fn the_same_input_compresses_to_the_same_bytes() {
        for levels in &LEVELS {
            let level = levels.default.to_string();
            let input = b"the same input ".repeat(5000);
            assert_eq!(
                compress(levels.algorithm, &level, &input),
                compress(levels.algorithm, &level, &input),
                "{}",
                levels.algorithm
            );
        }
    }

    #[test]
    fn a_deadline_in_the_past_stops_a_large_input() {
        for levels in &LEVELS {
            let ended = run_alone(
                &*build(declaration()),
                &[("algorithm", levels.algorithm)],
                vec![0; 4 << 20],
                Instant::now(),
            );
            assert_eq!(ended, Err(OperationError::Stopped(Stop::DeadlineExceeded)), "{}", levels.algorithm);
        }
    }
}
