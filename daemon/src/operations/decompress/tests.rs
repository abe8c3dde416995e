use std::io::Write;
use std::time::Instant;

use windlass_actors::operation::run_alone;

use super::*;
use crate::operations::compress;

const ALGORITHMS: [&str; 4] = ["zstd", "gzip", "brotli", "lz4"];

fn far() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

fn compressed(algorithm: &str, level: Option<&str>, input: &[u8]) -> Vec<u8> {
    let mut parameters = vec![("algorithm", algorithm)];
    parameters.extend(level.map(|level| ("level", level)));
    run_alone(&*compress::build(compress::declaration()), &parameters, input.to_vec(), far())
        .unwrap()
        .0
        .to_vec()
}

fn restored_with(
    settings: &[(&str, &str)],
    algorithm: &str,
    input: &[u8],
) -> Result<Vec<u8>, OperationError> {
    let mut declaration = declaration();
    for (key, value) in settings {
        declaration.set(key, value).unwrap();
    }
    run_alone(&*build(declaration), &[("algorithm", algorithm)], input.to_vec(), far())
        .map(|output| output.0.to_vec())
}

fn restored(algorithm: &str, input: &[u8]) -> Result<Vec<u8>, OperationError> {
    restored_with(&[], algorithm, input)
}

#[track_caller]
fn assert_invalid(result: Result<Vec<u8>, OperationError>, contains: &str) {
    match result {
        Err(OperationError::InvalidInput(message)) => assert!(message.contains(contains), "{message}"),
        other => panic!("{:?}", other.map(|output| output.len())),
    }
}

fn text(length: usize) -> Vec<u8> {
    b"It was a bright cold day in April, and the clocks were striking thirteen. ".repeat(length / 70 + 1)
        [..length]
        .to_vec()
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x53, 0x2a, 0x4d, 0x18];
    frame.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
    frame.extend(content);
    frame
}

#[test]
fn what_is_compressed_is_restored() {
    for algorithm in ALGORITHMS {
        for length in [0, 1, 2, 63, 1000, 65_535, 65_536, 65_537, 300_000, 1 << 20] {
            for input in [text(length), noise(length), vec![0; length]] {
                let stream = compressed(algorithm, None, &input);
                assert!(restored(algorithm, &stream).unwrap() == input, "{algorithm}, {length} bytes");
                if algorithm != "brotli" {
                    assert!(
                        restored("auto", &stream).unwrap() == input,
                        "{algorithm} by auto, {length} bytes"
                    );
                }
            }
        }
    }
}

#[test]
fn every_level_is_restored() {
    let input = [text(150_000), noise(20_000), vec![0; 300_000]].concat();
    for (algorithm, levels) in [("zstd", 1..=19), ("gzip", 1..=9), ("brotli", 0..=11), ("lz4", 1..=1)] {
        for level in levels {
            let stream = compressed(algorithm, Some(&level.to_string()), &input);
            assert!(restored(algorithm, &stream).unwrap() == input, "{algorithm} {level}");
        }
    }
}

#[test]
fn zeros_of_the_largest_body_are_restored_whatever_their_ratio() {
    let zeros = vec![0; 64 << 20];
    for algorithm in ALGORITHMS {
        let stream = compressed(algorithm, Some("1"), &zeros);
        assert!(restored(algorithm, &stream).unwrap() == zeros, "{algorithm}");
    }
}

#[test]
fn concatenated_members_are_restored_one_after_the_other() {
    let (first, second) = (text(100_000), noise(1000));
    for algorithm in ["zstd", "gzip", "lz4"] {
        let stream = [
            compressed(algorithm, None, &first),
            compressed(algorithm, None, b""),
            compressed(algorithm, None, &second),
        ]
        .concat();
        let expected = [&first[..], &second[..]].concat();
        assert!(restored(algorithm, &stream).unwrap() == expected, "{algorithm}");
        assert!(restored("auto", &stream).unwrap() == expected, "{algorithm}");
    }
}

#[test]
fn skippable_frames_are_passed_over() {
    for algorithm in ["zstd", "lz4"] {
        let member = compressed(algorithm, None, b"content");
        let stream =
            [skippable(b"before"), member.clone(), skippable(b""), member, skippable(b"after")].concat();
        assert_eq!(restored("auto", &stream).unwrap(), b"contentcontent", "{algorithm}");
        assert_eq!(restored(algorithm, &stream).unwrap(), b"contentcontent", "{algorithm}");
    }
    assert_eq!(restored("auto", &skippable(b"alone")).unwrap(), b"");
    assert_invalid(restored("auto", &skippable(b"cut")[..10]), "too early");
    let cut = [&compressed("lz4", None, b"content")[..], &skippable(b"cut")[..10]].concat();
    assert_invalid(restored("lz4", &cut), "too early");
}

#[test]
fn truncation_at_every_byte_is_answered_and_never_succeeds() {
    for algorithm in ALGORITHMS {
        for input in [text(500), noise(500), Vec::new(), text(70_000)] {
            let stream = compressed(algorithm, None, &input);
            for end in 0..stream.len() {
                let result = restored(algorithm, &stream[..end]);
                assert!(matches!(result, Err(OperationError::InvalidInput(_))), "{algorithm} cut at {end}");
            }
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    for algorithm in ALGORITHMS {
        for garbage in [&b"\0"[..], b"x", b"xxxx", b"more than a header of anything would need"] {
            let stream = [&compressed(algorithm, None, b"content")[..], garbage].concat();
            let result = restored(algorithm, &stream);
            assert!(matches!(result, Err(OperationError::InvalidInput(_))), "{algorithm} {garbage:?}");
        }
    }
}

#[test]
fn a_flipped_bit_never_panics_and_is_mostly_noticed() {
    let input = text(2000);
    for algorithm in ALGORITHMS {
        let stream = compressed(algorithm, None, &input);
        for place in 0..stream.len() * 8 {
            let mut corrupt = stream.clone();
            corrupt[place / 8] ^= 1 << (place % 8);
            match restored(algorithm, &corrupt) {
                // Brotli has no checksum; gzip none over its header.
                Ok(output) => assert!(algorithm == "brotli" || output == input, "{algorithm} bit {place}"),
                Err(error) => assert!(
                    matches!(error, OperationError::InvalidInput(_) | OperationError::TooLarge(_)),
                    "{algorithm} bit {place}: {error}"
                ),
            }
        }
    }
}

#[test]
fn what_is_no_stream_is_refused_with_a_hint_to_brotli() {
    assert_invalid(restored("auto", b"plain text"), "algorithm=brotli");
    assert_invalid(restored("auto", &compressed("brotli", None, &text(1000))), "algorithm=brotli");
    assert_invalid(restored("auto", b""), "empty");
    assert_invalid(restored("auto", &[0x02, 0x21, 0x4c, 0x18, 0, 0, 0, 0]), "legacy");
    for algorithm in ALGORITHMS {
        assert_invalid(restored(algorithm, b"plain text"), algorithm);
        assert_invalid(restored(algorithm, b""), "empty");
    }
}

/// Compressed zeros, made without having them in memory.
fn bomb(algorithm: &str, bytes: usize) -> Vec<u8> {
    let block = vec![0; 1 << 20];
    let blocks = bytes >> 20;
    match algorithm {
        "zstd" => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            (0..blocks).for_each(|_| encoder.write_all(&block).unwrap());
            encoder.finish().unwrap()
        }
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(9));
            (0..blocks).for_each(|_| encoder.write_all(&block).unwrap());
            encoder.finish().unwrap()
        }
        "brotli" => {
            let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
            (0..blocks).for_each(|_| encoder.write_all(&block).unwrap());
            encoder.into_inner()
        }
        _ => {
            let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
            (0..blocks).for_each(|_| encoder.write_all(&block).unwrap());
            encoder.finish().unwrap()
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_output_limit() {
    for algorithm in ALGORITHMS {
        let bomb = bomb(algorithm, 1 << 30);
        assert!(bomb.len() < 8 << 20, "{algorithm}: {}", bomb.len());
        match restored(algorithm, &bomb) {
            Err(OperationError::TooLarge(message)) => assert!(message.contains("64MiB"), "{message}"),
            other => panic!("{algorithm}: {:?}", other.map(|output| output.len())),
        }
    }
}

#[test]
fn an_output_of_exactly_the_limit_is_answered_and_one_byte_more_is_not() {
    for algorithm in ALGORITHMS {
        let limit = [("output_max", "100KiB")];
        let fits = text(100 << 10);
        assert!(restored_with(&limit, algorithm, &compressed(algorithm, None, &fits)).unwrap() == fits);
        let over = compressed(algorithm, None, &text((100 << 10) + 1));
        let result = restored_with(&limit, algorithm, &over);
        assert!(matches!(result, Err(OperationError::TooLarge(_))), "{algorithm}");
    }
}

#[test]
fn the_ratio_binds_only_beyond_what_is_free() {
    let stream = compressed("zstd", None, &vec![0; 1 << 20]);
    assert!(stream.len() < 1000);
    let strict = [("ratio_free", "64KiB"), ("ratio_max", "10")];
    match restored_with(&strict, "zstd", &stream) {
        Err(OperationError::TooLarge(message)) => {
            assert!(message.contains("10 times the input"), "{message}")
        }
        other => panic!("{:?}", other.map(|output| output.len())),
    }
    let free = [("ratio_free", "1MiB"), ("ratio_max", "10")];
    assert_eq!(restored_with(&free, "zstd", &stream).unwrap().len(), 1 << 20);
}

#[test]
fn a_zstd_window_over_the_limit_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(24).unwrap();
    encoder.write_all(&text(1000)).unwrap();
    let stream = encoder.finish().unwrap();
    assert_eq!(restored("zstd", &stream).unwrap().len(), 1000);
    match restored_with(&[("window_max", "8MiB")], "zstd", &stream) {
        Err(OperationError::TooLarge(message)) => assert!(message.contains("window_max"), "{message}"),
        other => panic!("{:?}", other.map(|output| output.len())),
    }
}

#[test]
fn a_large_window_of_brotli_is_no_part_of_the_format() {
    let parameters = brotli::enc::BrotliEncoderParams {
        quality: 5,
        lgwin: 28,
        large_window: true,
        ..brotli::enc::BrotliEncoderParams::default()
    };
    let mut encoder = brotli::CompressorWriter::with_params(Vec::new(), 4096, &parameters);
    encoder.write_all(&text(1000)).unwrap();
    assert_invalid(restored("brotli", &encoder.into_inner()), "brotli");
}

#[test]
fn a_deadline_in_the_past_stops_a_large_input() {
    for algorithm in ALGORITHMS {
        let stream = compressed(algorithm, Some("1"), &noise(4 << 20));
        let ended = run_alone(&*build(declaration()), &[("algorithm", algorithm)], stream, Instant::now());
        assert_eq!(ended, Err(OperationError::Stopped(Stop::DeadlineExceeded)), "{algorithm}");
    }
}

#[test]
fn a_stream_that_yields_nothing_is_stopped_too() {
    // Empty stored blocks of deflate: input without output.
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    stream.extend([0, 0, 0, 0xff, 0xff].repeat(4 << 20));
    let deadline = Instant::now() + Duration::from_millis(5);
    let ended = run_alone(&*build(declaration()), &[], stream, deadline);
    assert_eq!(ended, Err(OperationError::Stopped(Stop::DeadlineExceeded)));
}

#[test]
fn the_estimate_is_never_more_than_the_limit() {
    let operation = build(declaration());
    for algorithm in ["auto", "zstd", "gzip", "brotli", "lz4"] {
        let arguments = Arguments::check(operation.declaration(), &[("algorithm", algorithm)]).unwrap();
        let estimate = operation.estimate(&arguments, u64::MAX).unwrap();
        assert_eq!(estimate.output_bytes, 64 << 20);
        assert!(estimate.work_bytes <= 65 << 20);
    }
}
