//! Fairness: who waits for whom, and who gets how much of the workers.

use std::time::Duration;

use windlass_protocol::client::{Priority, Request};

use super::{GRACE, SPIN_5_MS, Size};
use crate::arrivals;
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, Lane, Pace, Sample};
use crate::numbers::{milliseconds, percentile, ratio};
use crate::server::Server;
use crate::trouble::Trouble;

/// Nothing here may be refused for taking long: who comes when is what is looked at.
const PATIENT: [(&str, &str); 2] = [("queue.max_wait", "10m"), ("queue.capacity", "16384")];

/// How long every answer is wanted.
const DEADLINE: Duration = Duration::from_secs(60);

/// One heavy job.
const HEAVY: Duration = Duration::from_millis(20);

const LIGHT_CLIENTS: u8 = 10;

/// Requests that a flood keeps under way.
const FLOOD: u16 = 128;

pub(crate) async fn run(size: Size) -> Result<Vec<Figure>, Trouble> {
    let mut figures = vec![light_beside_heavy(size).await?];
    figures.extend(equal_shares(size).await?);
    figures.push(batch_share(size).await?);
    figures.push(interactive_beside_batch(size).await?);
    Ok(figures)
}

fn spin(time: Duration) -> Request {
    Request::new("spin").parameter("for", format!("{}us", time.as_micros())).deadline(DEADLINE)
}

/// The service time of what was done, until `time`.
fn worked(samples: &[Sample], tag: &str, time: Duration) -> Duration {
    let of_it = samples.iter().filter(|sample| sample.tag == tag && sample.ended <= time);
    of_it.filter_map(Sample::service).sum()
}

/// Of all but the refused; what was never answered counts with the time until it was given up, which is less than it
/// would have taken.
fn p99(samples: &[Sample], tag: &str) -> Option<Duration> {
    let of_it = samples.iter().filter(|sample| sample.tag == tag && !sample.is_refused());
    percentile(&mut of_it.map(Sample::latency).collect::<Vec<_>>(), 99.0)
}

async fn light_beside_heavy(size: Size) -> Result<Figure, Trouble> {
    let server = Server::start(&PATIENT).await?;
    let time = size.seconds(4.0, 20.0);
    let heavy = Lane { tag: "heavy", request: spin(HEAVY), pace: Pace::closed(1000) };
    let light = |client: u8| Lane {
        tag: "light",
        request: Request::new("hash").body(vec![client; 1024]).deadline(DEADLINE),
        // Each at a time of its own, and after the heavy ones have filled the queue.
        pace: Pace::Open(arrivals::even(1.0, 0.3 + f64::from(client) / f64::from(LIGHT_CLIENTS), time)),
    };
    let lanes = std::iter::once(heavy).chain((0..LIGHT_CLIENTS).map(light)).collect();
    let samples =
        load::run(server.address(), lanes, Duty { time, linger: Duration::from_millis(200) }).await?;
    let lost = samples.iter().filter(|sample| sample.tag == "light" && !sample.is_done()).count();
    let asked = samples.iter().filter(|sample| sample.tag == "light").count();
    let p99 = p99(&samples, "light").map(milliseconds);
    Ok(Figure::new("light beside 1,000 heavy: p99", p99, "ms")
        .target(Target::Below(2.0 * milliseconds(HEAVY)))
        .note(format!(
            "a heavy job takes {} ms; {lost} of {asked} light ones were not answered",
            HEAVY.as_millis()
        )))
}

/// Two operations, so that the daemon's own metrics tell the two clients apart. A bcrypt of cost 4 takes about 1 ms.
async fn equal_shares(size: Size) -> Result<Vec<Figure>, Trouble> {
    let server = Server::start(&PATIENT).await?;
    let time = size.seconds(4.0, 20.0);
    let short = Request::new("password-hash")
        .parameter("algorithm", "bcrypt")
        .parameter("cost", "4")
        .body("correct horse")
        .deadline(DEADLINE);
    let long = spin(Duration::from_millis(100));
    let lane = |tag, request| Lane { tag, request, pace: Pace::closed(FLOOD) };
    let lanes = vec![lane("short", short), lane("long", long)];
    let samples = load::run(server.address(), lanes, Duty { time, linger: Duration::ZERO }).await?;
    let [short, long] = ["short", "long"].map(|tag| worked(&samples, tag, time).as_secs_f64());
    let jobs = samples.iter().filter(|sample| sample.tag == "short" && sample.is_done()).count();
    let length = ratio(short * 1e3, crate::numbers::as_f64(jobs)).unwrap_or_default();
    let note = format!("{short:.2} s of jobs of {length:.2} ms, {long:.2} s of jobs of 100 ms");
    let [metered_short, metered_long] =
        [server.service_seconds("password-hash").await?, server.service_seconds("spin").await?];
    let metered = format!("{metered_short:.2} s and {metered_long:.2} s, with what was stopped at the end");
    let equal = Target::Within(0.9, 1.1);
    Ok(vec![
        Figure::new("1 ms jobs over 100 ms jobs: CPU time by the replies", ratio(short, long), "")
            .target(equal)
            .note(note),
        Figure::new(
            "1 ms jobs over 100 ms jobs: CPU time by the metrics",
            ratio(metered_short, metered_long),
            "",
        )
        .target(equal)
        .note(metered),
    ])
}

fn flood(tag: &'static str, priority: Priority) -> Lane {
    let request = SPIN_5_MS.request(DEADLINE).priority(priority);
    Lane { tag, request, pace: Pace::closed(FLOOD) }
}

async fn batch_share(size: Size) -> Result<Figure, Trouble> {
    let server = Server::start(&PATIENT).await?;
    let time = size.seconds(3.0, 20.0);
    let lanes = vec![flood("interactive", Priority::Interactive), flood("batch", Priority::Batch)];
    let samples = load::run(server.address(), lanes, Duty { time, linger: Duration::ZERO }).await?;
    let [interactive, batch] = ["interactive", "batch"].map(|tag| worked(&samples, tag, time).as_secs_f64());
    Ok(Figure::new("batch under an interactive flood: share", ratio(batch, interactive + batch), "")
        .target(Target::Within(0.11, 0.14))
        .note("its weight is 1 in 8: 0.125"))
}

async fn interactive_beside_batch(size: Size) -> Result<Figure, Trouble> {
    let time = size.seconds(3.0, 15.0);
    let mut p99s = Vec::new();
    for with_flood in [false, true] {
        let server = Server::start(&PATIENT).await?;
        let capacity = SPIN_5_MS.capacity(&server, size.seconds(0.7, 3.0)).await?;
        // A fifth of what the daemon can do: alone, it hardly waits.
        let mut lanes = SPIN_5_MS.offered(capacity / 5.0, time, DEADLINE);
        if with_flood {
            lanes.push(flood("batch", Priority::Batch));
        }
        let samples = load::run(server.address(), lanes, Duty { time, linger: GRACE }).await?;
        p99s.push(p99(&samples, "offered").map_or(f64::INFINITY, milliseconds));
    }
    let [alone, beside] = [p99s[0], p99s[1]];
    Ok(Figure::new("interactive p99 with a batch flood over without", ratio(beside, alone), "")
        .target(Target::Below(2.0))
        .note(format!("{beside:.1} ms and {alone:.1} ms")))
}
