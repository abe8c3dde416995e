//! Goodput: what is done in time when more and more is asked, how soon the rest is told, and whether what it is told of
//! coming back is true.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use windlass_protocol::client::{Outcome, Pipe, Template};

use super::{ARGON2ID, GRACE, SPIN_5_MS, Size, Work};
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, Load, Sample, Trapped};
use crate::numbers::{as_f64, milliseconds, percentile, ratio, share};
use crate::plot::Curve;
use crate::process;
use crate::server::Server;
use crate::trouble::Trouble;

/// How long each answer is wanted.
const DEADLINE: Duration = Duration::from_secs(1);

const MULTIPLES: [f64; 4] = [1.0, 2.0, 5.0, 10.0];

/// The load has settled after this part of it.
const SETTLED: f64 = 0.25;

/// A refusal is a refusal at once within this.
const AT_ONCE: Duration = Duration::from_millis(10);

/// How long a refused request is probed for.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two probes, where nothing was said of when to come back; otherwise a twentieth of what was said.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

pub(crate) async fn run(size: Size) -> Result<(Vec<Figure>, Vec<Curve>), Trouble> {
    let (mut figures, mut curves) = (Vec::new(), Vec::new());
    for work in [SPIN_5_MS, ARGON2ID] {
        let server = Server::start(&[]).await?;
        let capacity = work.capacity(&server, size.seconds(2.0, 10.0)).await?;
        let note = "in a closed loop, beside this program";
        figures.push(Figure::new(format!("{}: capacity", work.name), capacity, "/s").note(note));
        let steps = steps(&work, &server, capacity, size).await?;
        let peak = steps.iter().map(|step| step.rate).fold(capacity, f64::max);
        figures.extend(steps.iter().map(|step| step.figure(&work, peak)));
        figures.extend(steps.last().map(|step| refusals(&work, &step.samples)));
        let points = steps.iter().map(|step| (step.multiple, step.rate / peak)).collect();
        curves.push(Curve { name: work.name.to_owned(), points });
        drop(server);
        // Who is refused is told when the same client will be admitted, and the one that asks again here is the same.
        let server = Server::start(&[("queue.fair_by", "address")]).await?;
        figures.extend(retry_after(&work, &server, capacity * 10.0, size).await?);
    }
    Ok((figures, curves))
}

/// One offered load.
struct Step {
    multiple: f64,
    /// Done in time per second.
    rate: f64,
    /// Cores that the daemon had: of a machine that others use, too, its goodput is a part of what it was given.
    cores: f64,
    /// The part of its workers' time that went into answers in time.
    useful: Option<f64>,
    samples: Vec<Sample>,
}

/// Every load in turn, several times over, so that what others do on the machine meets all of them; of each the run of
/// the median rate.
async fn steps(work: &Work, server: &Server, capacity: f64, size: Size) -> Result<Vec<Step>, Trouble> {
    let time = size.seconds(2.5, 10.0);
    let mut runs: Vec<Vec<Step>> = MULTIPLES.iter().map(|_| Vec::new()).collect();
    for _ in 0..size.choose(1, 3) {
        for (multiple, runs) in MULTIPLES.into_iter().zip(&mut runs) {
            let lanes = work.offered(capacity * multiple, time, DEADLINE);
            let pipes = load::connect(server.address(), lanes.len()).await?;
            let busy = server.busy_seconds().await?;
            let (began, cpu) = (Instant::now(), process::cpu_time(server.pid()));
            let duty = Duty { time, linger: DEADLINE + GRACE };
            let samples = Load::start(pipes, lanes, duty)?.finish().await;
            let cpu = process::cpu_time(server.pid()).saturating_sub(cpu);
            let cores = cpu.as_secs_f64() / began.elapsed().as_secs_f64();
            let in_time = samples.iter().filter(|sample| sample.latency() <= DEADLINE);
            let useful: Duration = in_time.filter_map(Sample::service).sum();
            let useful = ratio(useful.as_secs_f64(), server.busy_seconds().await? - busy);
            runs.push(Step { multiple, rate: done_in_time(&samples, time), cores, useful, samples });
        }
    }
    Ok(runs.into_iter().filter_map(median).collect())
}

fn median(mut runs: Vec<Step>) -> Option<Step> {
    runs.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    let middle = runs.len() / 2;
    (middle < runs.len()).then(|| runs.swap_remove(middle))
}

/// Requests per second that were done within their deadline, once the load had settled.
fn done_in_time(samples: &[Sample], time: Duration) -> f64 {
    let window = time.mul_f64(SETTLED)..time;
    let in_time =
        |sample: &&Sample| sample.is_done() && sample.latency() <= DEADLINE && window.contains(&sample.ended);
    as_f64(samples.iter().filter(in_time).count()) / (window.end - window.start).as_secs_f64()
}

impl Step {
    fn figure(&self, work: &Work, peak: f64) -> Figure {
        let count = |is_so: fn(&Sample) -> bool| self.samples.iter().filter(|sample| is_so(sample)).count();
        let (done, refused) = (count(Sample::is_done), count(Sample::is_refused));
        let late = count(|sample| sample.is_done() && sample.latency() > DEADLINE);
        let note = format!(
            "{:.1}/s in time; of {} asked {done} done ({late} late), {refused} refused, {} lost; the daemon had {:.2} cores, \
             {:.0} % of its workers' time was in answers in time",
            self.rate,
            self.samples.len(),
            self.samples.len() - done - refused,
            self.cores,
            self.useful.unwrap_or_default() * 100.0,
        );
        let name = format!("{}: goodput at {:.0}× of the peak", work.name, self.multiple);
        Figure::new(name, ratio(self.rate, peak), "").target(Target::AtLeast(0.95)).note(note)
    }
}

fn refusals(work: &Work, samples: &[Sample]) -> Figure {
    let mut latencies: Vec<Duration> =
        samples.iter().filter(|sample| sample.is_refused()).map(Sample::latency).collect();
    let at_once = share(&latencies, |latency| *latency <= AT_ONCE);
    let [median, p99] =
        [50.0, 99.0].map(|percent| percentile(&mut latencies, percent).map_or(0.0, milliseconds));
    Figure::new(format!("{}: refusals within 10 ms at 10×", work.name), at_once, "")
        .target(Target::AtLeast(0.99))
        .note(format!("of {}; median {median:.2} ms, p99 {p99:.1} ms", latencies.len()))
}

/// Stops the load at a refusal, several times, and asks the same again until it is admitted.
async fn retry_after(
    work: &Work,
    server: &Server,
    per_second: f64,
    size: Size,
) -> Result<Vec<Figure>, Trouble> {
    let (mut told, mut ratios, mut truths) = (0_u32, Vec::new(), Vec::new());
    let trials = size.choose(2, 8);
    for _ in 0..trials {
        let Some((trapped, truth)) = trial(work, server, per_second, size).await? else { continue };
        truths.push(truth.as_secs_f64());
        if let Some(retry_after) = trapped.retry_after {
            told += 1;
            ratios.extend(ratio(retry_after.as_secs_f64(), truth.as_secs_f64()));
        }
    }
    let spread = match (percentile(&mut ratios, 0.0), percentile(&mut ratios, 100.0)) {
        (Some(least), Some(most)) => format!(" ({least:.2} to {most:.2})"),
        _ => String::new(),
    };
    let truth = percentile(&mut truths, 50.0).map_or("never Overloaded".to_owned(), |truth| {
        format!("admitted after {:.0} ms (median)", truth * 1e3)
    });
    let note = format!("told {told} times of {trials}{spread}; {truth}");
    let name = format!("{}: retry_after over the truth", work.name);
    Ok(vec![Figure::new(name, percentile(&mut ratios, 50.0), "").target(Target::Within(0.5, 2.0)).note(note)])
}

/// What a refusal said, and how long it really took until the same request was admitted. `None` when nothing was
/// refused, or not admitted again in time.
async fn trial(
    work: &Work,
    server: &Server,
    per_second: f64,
    size: Size,
) -> Result<Option<(Trapped, Duration)>, Trouble> {
    let settled = size.seconds(1.2, 3.0);
    let time = settled + size.seconds(1.0, 2.0);
    let lanes = work.offered(per_second, time, DEADLINE);
    let mut pipes = load::connect(server.address(), lanes.len() + 1).await?;
    // Connected before it is needed: the truth may be a few milliseconds.
    let Some(probing) = pipes.pop() else { return Ok(None) };
    let load = Load::start(pipes, lanes, Duty { time, linger: DEADLINE + GRACE })?;
    let trapped = load.trap(settled, time).await;
    let truth = match trapped {
        Some(trapped) => timeout(PROBE_PATIENCE, probe(work, probing, trapped)).await.ok().transpose()?,
        None => None,
    };
    load.finish().await;
    Ok(trapped.zip(truth))
}

/// Sends the same request again and again, until one is not refused: how long after the refusal that one was sent.
async fn probe(work: &Work, mut pipe: Pipe, trapped: Trapped) -> Result<Duration, Trouble> {
    let attempted = |error| Trouble::call("probing with a refused request", error);
    let template = Template::new(&work.request(DEADLINE), pipe.terms()).map_err(attempted)?;
    let pause = trapped.retry_after.map_or(PROBE_PAUSE, |time| (time / 20).max(Duration::from_millis(1)));
    loop {
        let sent = Instant::now();
        pipe.push(&template, 0);
        let mut is_done = None;
        while is_done.is_none() {
            let turned =
                pipe.turn(|_, outcome| is_done = Some(matches!(outcome, Outcome::Reply { .. }))).await;
            turned.map_err(attempted)?;
        }
        if is_done == Some(true) {
            return Ok(sent.saturating_duration_since(trapped.at));
        }
        sleep(pause).await;
    }
}
