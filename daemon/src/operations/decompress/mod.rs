//! `decompress`: restores zstd, gzip, brotli and LZ4 streams, up to limits that hold before memory is spent.

use std::io::{self, BufRead, ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::bufread::MultiGzDecoder;
use lz4_flex::frame::FrameDecoder;
use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Limit, Operation, OperationError, Output,
    OutputBudget, Parameter, ParameterKind, Resultant, Secrecy, Stop, StopCheck, WorkArea,
};
use windlass_actors::units::format_size;
use zstd::zstd_safe::{DCtx, ResetDirective};

use super::{AREA_BYTES_KEPT_MAX, SMALL_STRETCH, cpu_time, integer_limit, size_limit};

/// What is given to a decompressor, and asked of it, between two looks at the stop flag.
const CHUNK_BYTES: usize = 64 << 10;

/// Smallest room that an output starts with.
const START_BYTES: u64 = 4 << 10;

/// Two linked LZ4 blocks of the largest size and a compressed one.
const LZ4_BYTES: u64 = 12 << 20;

/// Largest window of RFC 7932.
const BROTLI_WINDOW_BYTES: u64 = 16 << 20;

/// Tables and buffers of any decompressor, besides its window.
const FIXED_BYTES: u64 = 512 << 10;

/// How zstd says that a window is larger than its setting; its error codes do not reach us.
const ZSTD_WINDOW_REFUSAL: &str = "too much memory";

struct Decompress {
    declaration: Declaration,
}

pub(super) fn declaration() -> Declaration {
    let size = |name, min, max, value: &str, about| Limit {
        name,
        kind: ParameterKind::Size { min, max },
        value: value.to_owned(),
        about,
    };
    Declaration {
        name: "decompress",
        about: "what was compressed; concatenated members are restored one after the other",
        parameters: vec![Parameter {
            name: "algorithm",
            kind: ParameterKind::Choice(&["auto", "zstd", "gzip", "brotli", "lz4"]),
            default: Some("auto".to_owned()),
            required: false,
            about: "the format; auto tells zstd, gzip and lz4 apart, brotli has to be named",
        }],
        limits: vec![
            size("output_max", 1 << 10, 3 << 30, "64MiB", "largest output"),
            Limit {
                name: "ratio_max",
                kind: ParameterKind::Integer { min: 1, max: 1_000_000_000 },
                value: "1000".to_owned(),
                about: "most bytes of output for a byte of input, once the output is larger than ratio_free",
            },
            size("ratio_free", 0, 3 << 30, "64MiB", "output that ratio_max does not apply to"),
            size("window_max", 1 << 10, 2 << 30, "128MiB", "largest window of a zstd frame"),
        ],
        result: Resultant::Binary,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: SMALL_STRETCH,
    }
}

pub(super) fn build(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(Decompress { declaration })
}

/// The zstd context that a worker keeps.
struct ZstdArea(DCtx<'static>);

impl WorkArea for ZstdArea {
    fn new() -> Self {
        Self(DCtx::create())
    }

    fn bytes(&self) -> u64 {
        self.0.sizeof() as u64
    }

    fn as_any(&mut self) -> &mut dyn std::any::Any {
        self
    }
}

/// The input as decompressors read it: in chunks, each after a look at the stop flag.
#[derive(Clone, Copy)]
struct Feed<'a> {
    rest: &'a [u8],
    stop: StopCheck<'a>,
    stopped: Option<Stop>,
    /// Whether more was asked for than there is, which tells a truncated stream from a complete one where the
    /// library does not.
    starved: bool,
}

impl Feed<'_> {
    fn starts_with_skippable(&self) -> bool {
        matches!(self.rest, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
    }

    /// Passes over a frame of user data, which zstd and LZ4 have in common.
    fn skip_skippable(&mut self) -> io::Result<()> {
        let length = self.rest.get(4..8).ok_or(ErrorKind::UnexpectedEof)?;
        let length = u32::from_le_bytes(length.try_into().expect("the slice has four bytes"));
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(8));
        self.rest = end.and_then(|end| self.rest.get(end..)).ok_or(ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

impl BufRead for Feed<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Err(stop) = self.stop.check() {
            self.stopped = Some(stop);
            return Err(io::Error::other(stop));
        }
        self.starved |= self.rest.is_empty();
        Ok(&self.rest[..self.rest.len().min(CHUNK_BYTES)])
    }

    fn consume(&mut self, amount: usize) {
        self.rest = &self.rest[amount..];
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let amount = self.fill_buf()?.read(buffer)?;
        self.consume(amount);
        Ok(amount)
    }
}

/// LZ4 frames one after the other, with what the library leaves open: the frames after the first, skippable
/// frames, and the end of the input in the middle of a frame, which it takes for the end of the frame. A compressed
/// block that holds nothing, which no encoder writes, looks like the end of a frame too.
struct Lz4Reader<'a, 'b> {
    /// `None` once all is read. One decoder for each frame, because their block sizes may differ.
    decoder: Option<FrameDecoder<&'b mut Feed<'a>>>,
}

impl<'a, 'b> Lz4Reader<'a, 'b> {
    fn new(feed: &'b mut Feed<'a>) -> io::Result<Self> {
        Ok(Self { decoder: Self::next_frame(feed)? })
    }

    fn next_frame(feed: &'b mut Feed<'a>) -> io::Result<Option<FrameDecoder<&'b mut Feed<'a>>>> {
        while feed.starts_with_skippable() {
            feed.fill_buf()?; // looks at the stop flag
            feed.skip_skippable()?;
        }
        Ok(if feed.rest.is_empty() { None } else { Some(FrameDecoder::new(feed)) })
    }
}

impl Read for Lz4Reader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(mut decoder) = self.decoder.take() {
            let amount = decoder.read(buffer)?;
            if amount > 0 {
                self.decoder = Some(decoder);
                return Ok(amount);
            }
            let feed = decoder.into_inner();
            if feed.starved {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.decoder = Self::next_frame(feed)?;
        }
        Ok(0)
    }
}

/// One brotli stream, without the large windows that are no part of RFC 7932.
struct BrotliReader<'a, 'b> {
    feed: &'b mut Feed<'a>,
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    ended: bool,
}

impl Read for BrotliReader<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut written = 0;
        while !self.ended && written == 0 {
            let chunk = self.feed.fill_buf()?;
            let (mut available, mut taken, mut room, mut total) = (chunk.len(), 0, buffer.len(), 0);
            let result = BrotliDecompressStream(
                &mut available,
                &mut taken,
                chunk,
                &mut room,
                &mut written,
                buffer,
                &mut total,
                &mut self.state,
            );
            self.feed.consume(taken);
            match result {
                BrotliResult::ResultSuccess if !self.feed.rest.is_empty() => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "bytes follow the end of the stream"));
                }
                BrotliResult::ResultSuccess => self.ended = true,
                BrotliResult::NeedsMoreInput if self.feed.rest.is_empty() && written == 0 => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
                BrotliResult::ResultFailure => {
                    return Err(io::Error::new(ErrorKind::InvalidData, "corrupt data"));
                }
            }
        }
        Ok(written)
    }
}

/// The limits of an output, and the output as it grows.
struct Sink {
    bytes: Vec<u8>,
    bytes_max: u64,
    /// What the largest size follows from, for the refusal.
    reason: String,
}

impl Sink {
    /// Reads all that comes, reserving before growing.
    fn collect(
        &mut self,
        mut source: impl Read,
        stop: StopCheck<'_>,
        budget: &mut OutputBudget<'_>,
    ) -> Result<(), Failure> {
        loop {
            stop.check().map_err(OperationError::from).map_err(Failure::Answer)?;
            let start = self.bytes.len();
            if start as u64 == self.bytes_max {
                return match source.read(&mut [0]).map_err(Failure::Stream)? {
                    0 => Ok(()),
                    _ => Err(Failure::Answer(OperationError::TooLarge(format!(
                        "the output is larger than {}",
                        self.reason
                    )))),
                };
            }
            if start == self.bytes.capacity() {
                self.grow(budget).map_err(Failure::Answer)?;
            }
            let end = self.bytes.capacity().min(start + CHUNK_BYTES);
            let end = usize::try_from(self.bytes_max).map_or(end, |bytes_max| end.min(bytes_max));
            self.bytes.resize(end, 0);
            let read = source.read(&mut self.bytes[start..]);
            self.bytes.truncate(start + read.as_ref().map_or(0, |amount| *amount));
            if read.map_err(Failure::Stream)? == 0 {
                return Ok(());
            }
        }
    }

    /// Grows by half, or by a chunk where memory is so short that half is refused.
    fn grow(&mut self, budget: &mut OutputBudget<'_>) -> Result<(), OperationError> {
        let length = self.bytes.len() as u64;
        let total = |more: u64| (length + more.max(START_BYTES)).min(self.bytes_max);
        let wanted = total(length / 2);
        let granted = match budget.reserve(wanted) {
            Ok(()) => wanted,
            Err(_) => {
                let least = total((CHUNK_BYTES as u64).min(length / 2));
                budget.reserve(least)?;
                least
            }
        };
        self.make_room(granted)
    }

    fn make_room(&mut self, total: u64) -> Result<(), OperationError> {
        usize::try_from(total)
            .ok()
            .and_then(|total| self.bytes.try_reserve_exact(total - self.bytes.len()).ok())
            .ok_or_else(|| OperationError::Overloaded(format!("no memory for an output of {total} bytes")))
    }
}

/// What ends the reading of a stream early.
enum Failure {
    /// The stream, or the feed.
    Stream(io::Error),
    /// A limit.
    Answer(OperationError),
}

/// The format of a stream by its first bytes, after what its writer may have put before them for itself.
fn recognized(mut ahead: Feed<'_>) -> Result<&'static str, OperationError> {
    let skipped = ahead.starts_with_skippable();
    while ahead.starts_with_skippable() {
        ahead.stop.check()?;
        ahead.skip_skippable().map_err(|_| truncated("skippable"))?;
    }
    match ahead.rest {
        [] if skipped => Ok("zstd"),
        [0x1f, 0x8b, ..] if !skipped => Ok("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok("zstd"),
        [0x04, 0x22, 0x4d, 0x18, ..] => Ok("lz4"),
        [0x02, 0x21, 0x4c, 0x18, ..] => {
            Err(OperationError::InvalidInput("LZ4 frames of the legacy format are not supported".to_owned()))
        }
        _ => Err(OperationError::InvalidInput(
            "the input is neither zstd, gzip nor lz4; brotli cannot be recognized and has to be named with \
             algorithm=brotli"
                .to_owned(),
        )),
    }
}

impl Decompress {
    fn size(&self, limit: &str) -> u64 {
        size_limit(&self.declaration, limit)
    }

    /// The smallest of the limits, and its name for people.
    fn sink(&self, input_bytes: u64, budget: &OutputBudget<'_>) -> Sink {
        let output_max = self.size("output_max");
        let ratio_max = integer_limit(&self.declaration, "ratio_max");
        let by_ratio = input_bytes.saturating_mul(ratio_max).max(self.size("ratio_free"));
        let (bytes_max, reason) = if budget.bytes_max() < output_max.min(by_ratio) {
            let bytes = budget.bytes_max();
            (bytes, format!("the {bytes} bytes that this connection can be answered"))
        } else if by_ratio < output_max {
            (by_ratio, format!("{by_ratio} bytes, {ratio_max} times the input"))
        } else {
            (output_max, format!("the limit of {}", format_size(output_max)))
        };
        Sink { bytes: Vec::new(), bytes_max, reason }
    }

    fn restore(
        &self,
        algorithm: &str,
        feed: &mut Feed<'_>,
        sink: &mut Sink,
        context: &mut JobContext<'_>,
    ) -> Result<(), Failure> {
        let (stop, budget) = (context.stop, &mut context.output);
        match algorithm {
            "gzip" => sink.collect(MultiGzDecoder::new(feed), stop, budget),
            "lz4" => sink.collect(Lz4Reader::new(feed).map_err(Failure::Stream)?, stop, budget),
            "brotli" => {
                let alloc = StandardAlloc::default;
                let state = BrotliState::new_strict(alloc(), alloc(), alloc());
                sink.collect(BrotliReader { feed, state, ended: false }, stop, budget)
            }
            _ => {
                let area = context.areas.area::<ZstdArea>();
                let settings = |error: io::Error| {
                    Failure::Answer(OperationError::Internal(format!("zstd refuses its settings: {error}")))
                };
                area.0
                    .reset(ResetDirective::SessionAndParameters)
                    .map_err(|code| settings(io::Error::other(zstd::zstd_safe::get_error_name(code))))?;
                let mut decoder = zstd::stream::read::Decoder::with_context(feed, &mut area.0);
                decoder.window_log_max(self.size("window_max").ilog2()).map_err(settings)?;
                let result = sink.collect(decoder, stop, budget);
                if area.bytes() > AREA_BYTES_KEPT_MAX {
                    *area = ZstdArea::new();
                }
                result
            }
        }
    }

    fn estimated_output(&self, input_bytes: u64) -> u64 {
        input_bytes.saturating_mul(4).max(START_BYTES).min(self.size("output_max"))
    }
}

impl Operation for Decompress {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    /// The output is taken to be four times the input; more is reserved as it turns out to be needed. Working
    /// memory is what the largest allowed window can come to, because only the input itself says how large
    /// its window is.
    fn estimate(&self, arguments: &Arguments, input_bytes: u64) -> Result<Estimate, OperationError> {
        let output_max = self.size("output_max");
        let zstd = self.size("window_max").min(output_max);
        let (window_bytes, picoseconds_per_byte) = match arguments.choice("algorithm") {
            Some("gzip") => (64 << 10, 10_000),
            Some("lz4") => (LZ4_BYTES, 3_500),
            Some("brotli") => (BROTLI_WINDOW_BYTES.min(output_max), 12_000),
            Some("zstd") => (zstd, 6_000),
            _ => (zstd.max(LZ4_BYTES), 10_000),
        };
        Ok(Estimate {
            cpu: cpu_time(Duration::from_micros(10), input_bytes, picoseconds_per_byte),
            output_bytes: self.estimated_output(input_bytes),
            work_bytes: window_bytes + FIXED_BYTES,
        })
    }

    fn run(
        &self,
        arguments: &Arguments,
        input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        if input.is_empty() {
            return Err(OperationError::InvalidInput("the input is empty, which no stream is".to_owned()));
        }
        let mut feed = Feed { rest: input, stop: context.stop, stopped: None, starved: false };
        let algorithm = match arguments.choice("algorithm") {
            None | Some("auto") => recognized(feed)?,
            Some(named) => named,
        };
        let mut sink = self.sink(input.len() as u64, &context.output);
        let start = self.estimated_output(input.len() as u64).min(sink.bytes_max);
        context.output.reserve(start)?;
        sink.make_room(start)?;
        match self.restore(algorithm, &mut feed, &mut sink, context) {
            Ok(()) => {
                sink.bytes.shrink_to_fit();
                Ok(sink.bytes.into())
            }
            Err(Failure::Answer(answer)) => Err(answer),
            Err(Failure::Stream(error)) => Err(match feed.stopped {
                Some(stop) => stop.into(),
                None if error.kind() == ErrorKind::UnexpectedEof => truncated(algorithm),
                None if error.to_string().contains(ZSTD_WINDOW_REFUSAL) => OperationError::TooLarge(format!(
                    "the zstd frame needs a larger window than window_max, {}",
                    format_size(self.size("window_max"))
                )),
                None => OperationError::InvalidInput(format!("not a valid {algorithm} stream: {error}")),
            }),
        }
    }
}

fn truncated(algorithm: &str) -> OperationError {
    OperationError::InvalidInput(format!("the {algorithm} stream ends too early"))
}

#[cfg(test)]
mod tests;
