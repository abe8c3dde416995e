//! Memory: thousands of clients who all want much of it at once, and what the daemon takes and gives back.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;
use windlass_protocol::FailureCode;
use windlass_protocol::client::Request;

use super::Size;
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, End, Lane, Load, Pace, Sample};
use crate::numbers::as_f64;
use crate::process;
use crate::server::Server;
use crate::trouble::Trouble;

const LIMITS: [(&str, &str); 3] =
    [("queue.memory", "256MiB"), ("cpu.memory", "256MiB"), ("limits.body", "64MiB")];

/// The two limits together.
const LIMITS_MIB: f64 = 512.0;

/// Stated beside the limits: what the daemon has with all clients connected and before any of them asks, measured, and
/// this for the buffers of connections that are being read and written.
const BASE_MIB: f64 = 64.0;

/// Until so long after the last answer the memory may go back.
const GIVING_BACK: Duration = Duration::from_secs(5);

const BODY_BYTES: usize = 32 << 20;

/// What all clients do at once.
struct Wave {
    name: &'static str,
    request: Request,
    clients: usize,
    time: Duration,
}

pub(crate) async fn run(size: Size) -> Result<Vec<Figure>, Trouble> {
    let hashes = Wave {
        name: "argon2id at 64 MiB",
        request: Request::new("password-hash")
            .parameter("memory", "64MiB")
            .parameter("iterations", "1")
            .body("correct horse")
            .deadline(Duration::from_secs(20)),
        clients: size.choose(1_000, 10_000),
        time: Duration::from_secs(25),
    };
    let bodies = Wave {
        name: "32 MiB bodies",
        request: Request::new("hash").body(vec![7; BODY_BYTES]).deadline(Duration::from_secs(60)),
        clients: size.choose(200, 10_000),
        time: Duration::from_secs(size.choose(30, 120)),
    };
    let mut figures = Vec::new();
    for wave in [hashes, bodies] {
        figures.extend(measure(wave).await?);
    }
    Ok(figures)
}

async fn measure(wave: Wave) -> Result<Vec<Figure>, Trouble> {
    let Wave { name, request, clients, time } = wave;
    let server = Server::start(&LIMITS).await?;
    let pipes = load::connect(server.address(), clients).await?;
    let base = mebibytes(server.memory("VmRSS")?);
    let operation = request.operation.clone();
    let lane = |_| Lane { tag: "wave", request: request.clone(), pace: Pace::Open(vec![Duration::ZERO]) };
    // The time is how long answers are waited for: everything is sent at once.
    let duty = Duty { time, linger: Duration::ZERO };
    let samples = Load::start(pipes, (0..clients).map(lane).collect(), duty)?.finish().await;
    let peak = mebibytes(server.memory("VmHWM")?);
    let after = given_back(&server, base).await?;
    let anonymous = process::mapped(server.pid(), "Anonymous").map_or(0.0, mebibytes);

    let count = |is_so: &dyn Fn(&Sample) -> bool| samples.iter().filter(|sample| is_so(sample)).count();
    let done = count(&Sample::is_done);
    let refused = count(&|sample| code(sample) == Some(FailureCode::OVERLOADED));
    let others = count(&Sample::is_refused) - refused;
    let lost = clients - done - refused - others;
    // Refused at once is not accepted. What the daemon took into its queue and did not do, it counts itself.
    let dropped = not_done(&server.status().await?, &operation);
    Ok(vec![
        Figure::new(format!("{name}: peak of the resident memory"), peak, "MiB")
            .target(Target::Below(LIMITS_MIB + base + BASE_MIB))
            .note(format!("{clients} clients; {base:.0} MiB with them connected, before they asked")),
        Figure::new(format!("{name}: accepted and not done"), as_f64(dropped + lost), "")
            .target(Target::Below(1.0))
            .note(format!(
                "{done} done, {refused} refused ({dropped} of all after they were queued), {others} failed otherwise, \
                 {lost} lost"
            )),
        Figure::new(format!("{name}: resident memory afterwards"), after, "MiB")
            .target(Target::Below(base + BASE_MIB))
            .note(format!("{anonymous:.0} MiB of it anonymous (smaps)")),
    ])
}

fn code(sample: &Sample) -> Option<FailureCode> {
    match &sample.end {
        End::Failed(failure) => Some(failure.code),
        End::Done { .. } | End::Lost => None,
    }
}

/// Jobs of an operation that were accepted and ended without a result.
fn not_done(status: &Value, operation: &str) -> usize {
    let jobs = &status["operations"][operation];
    let counts = ["dropped", "stopped", "failed", "panicked"].map(|how| jobs[how].as_u64().unwrap_or(0));
    usize::try_from(counts.iter().sum::<u64>()).unwrap_or(usize::MAX)
}

/// The resident memory once it is back at about the base, or what it is after [`GIVING_BACK`].
async fn given_back(server: &Server, base: f64) -> Result<f64, Trouble> {
    let until = Instant::now() + GIVING_BACK;
    loop {
        let now = mebibytes(server.memory("VmRSS")?);
        if now < base + BASE_MIB / 2.0 || Instant::now() >= until {
            return Ok(now);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[allow(clippy::cast_precision_loss, reason = "bytes of memory stay far below 2^52")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
