//! Estimates: what jobs took, over what the daemon had thought that they would.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use windlass_protocol::client::Request;
use windlass_protocol::client::pipelined::Client;

use super::{SEED, Size};
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, Lane, Pace, Sample};
use crate::numbers::{milliseconds, percentile};
use crate::server::{self, Server};
use crate::trouble::Trouble;

/// More than the slowest of them takes together.
const PATIENCE: Duration = Duration::from_secs(300);

/// An operation, and how its input of some length is made.
struct Kind {
    operation: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    input: Input,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Input {
    /// Half noise, half repetition, of each size.
    Bytes,
    /// That, compressed by the daemon itself.
    Compressed,
    /// A password, whatever the size.
    Password,
    /// A password, with the hash that the daemon made of it.
    Hashed,
    Nothing,
}

const KINDS: [Kind; 7] = [
    Kind { operation: "echo", parameters: &[], input: Input::Bytes },
    Kind { operation: "hash", parameters: &[], input: Input::Bytes },
    Kind { operation: "compress", parameters: &[], input: Input::Bytes },
    Kind { operation: "decompress", parameters: &[], input: Input::Compressed },
    Kind { operation: "spin", parameters: &[("for", "2ms")], input: Input::Nothing },
    Kind { operation: "password-hash", parameters: &[], input: Input::Password },
    Kind { operation: "password-verify", parameters: &[], input: Input::Hashed },
];

pub(crate) async fn run(size: Size) -> Result<Vec<Figure>, Trouble> {
    let sizes: &[usize] = size.choose(&[1 << 10, 1 << 20][..], &[1 << 10, 64 << 10, 1 << 20, 16 << 20]);
    let jobs = 100;
    let mut figures = Vec::new();
    for kind in KINDS {
        let has_sizes = matches!(kind.input, Input::Bytes | Input::Compressed);
        for length in if has_sizes { sizes } else { &sizes[..1] } {
            figures.push(measure(&kind, *length, has_sizes, jobs).await?);
        }
    }
    Ok(figures)
}

/// A daemon of its own for each, so that its estimates know of nothing else.
async fn measure(kind: &Kind, length: usize, has_size: bool, jobs: usize) -> Result<Figure, Trouble> {
    let server = Server::start(&[]).await?;
    let request = request(kind, length, &server).await?;
    // Two at a time: as busy as a loaded daemon's workers are, and no more bodies than it holds.
    let pace = Pace::Closed { in_flight: 2, count_max: jobs };
    let lanes = vec![Lane { tag: "job", request, pace }];
    let duty = Duty { time: PATIENCE, linger: Duration::ZERO };
    let samples = load::run(server.address(), lanes, duty).await?;
    let done = samples.iter().filter(|sample| sample.is_done()).count();
    let mut services: Vec<Duration> = samples.iter().filter_map(Sample::service).collect();
    let service = percentile(&mut services, 50.0).map_or(0.0, milliseconds);

    let status = server.status().await?;
    let estimate = &status["operations"][kind.operation]["estimate"];
    let median = estimate["median_ratio"].as_f64();
    let told = if median.is_some() { "" } else { "; the status does not show it" };
    let length = if has_size { format!(", {} KiB", length >> 10) } else { String::new() };
    Ok(Figure::new(format!("{}{length}: observed over estimated", kind.operation), median, "")
        .target(Target::Within(0.5, 2.0))
        .note(format!("median service time {service:.3} ms, {done} of {jobs} done{told}")))
}

async fn request(kind: &Kind, length: usize, server: &Server) -> Result<Request, Trouble> {
    let mut request = Request::new(kind.operation).deadline(PATIENCE);
    for (name, value) in kind.parameters {
        request = request.parameter(*name, *value);
    }
    Ok(match kind.input {
        Input::Nothing => request,
        Input::Password => request.body("correct horse"),
        Input::Bytes => request.body(mixed(length)),
        Input::Compressed => request.body(once(server, Request::new("compress").body(mixed(length))).await?),
        Input::Hashed => {
            let hash = once(server, Request::new("password-hash").body("correct horse")).await?;
            request.parameter("hash", String::from_utf8_lossy(&hash)).body("correct horse")
        }
    })
}

/// The result of a request that prepares the others.
async fn once(server: &Server, request: Request) -> Result<Bytes, Trouble> {
    let attempted = |error| Trouble::call("preparing an input", error);
    let client = Client::connect(server.address().clone(), server::options()).await.map_err(attempted)?;
    Ok(client.call(&request).await.map_err(attempted)?.body)
}

/// Half of it compresses, half does not.
fn mixed(length: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(SEED);
    (0..length).map(|place| if place / 64 % 2 == 0 { rng.u8(..) } else { b'a' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_half_noise() {
        let input = mixed(1 << 16);
        let letters = input.iter().filter(|byte| **byte == b'a').count();
        assert!((32_768..34_000).contains(&letters), "{letters}");
        assert_eq!(input, mixed(1 << 16));
    }
}
