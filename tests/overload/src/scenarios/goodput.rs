//! Goodput: what is done in time when more and more is asked, how soon the rest is told, and (see `retry`) whether what it
//! is told of coming back is true.

use std::time::{Duration, Instant};

use super::retry;
use super::{ARGON2ID, GRACE, SPIN_5_MS, Size, Work};
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, Load, Sample};
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

pub(crate) async fn run(size: Size) -> Result<(Vec<Figure>, Vec<Curve>), Trouble> {
    let (mut figures, mut curves) = (Vec::new(), Vec::new());
    for work in [SPIN_5_MS, ARGON2ID] {
        let server = Server::start(&[]).await?;
        let (capacity, steps) = steps(&work, &server, size).await?;
        let note = "in a closed loop, beside this program, before each round";
        figures.push(Figure::new(format!("{}: capacity", work.name), capacity, "/s").note(note));
        let peak = steps.iter().map(Step::rate).fold(capacity, f64::max);
        figures.extend(steps.iter().map(|step| step.figure(&work, peak)));
        figures.extend(steps.last().map(|step| refusals(&work, &step.samples)));
        let points = steps.iter().map(|step| (step.multiple, step.reached(peak))).collect();
        curves.push(Curve { name: work.name.to_owned(), points });
        drop(server);
        figures.extend(retry::run(&work, capacity * 10.0, size).await?);
    }
    Ok((figures, curves))
}

/// One offered load, over all rounds.
#[derive(Default)]
struct Step {
    multiple: f64,
    rounds: u32,
    /// Done in time per second, and due per second, of each round, added up.
    done: f64,
    offered: f64,
    /// Cores that the daemon had, added up: of a machine that others use, too, its goodput is a part of what it was given.
    cores: f64,
    /// The part of its workers' time that went into answers in time, added up.
    useful: f64,
    samples: Vec<Sample>,
}

/// Capacity, and every load in turn, several times over: the machine's speed drifts over minutes, and so it drifts under
/// all of them alike. What is compared are the sums.
async fn steps(work: &Work, server: &Server, size: Size) -> Result<(f64, Vec<Step>), Trouble> {
    let mut steps: Vec<Step> =
        MULTIPLES.into_iter().map(|multiple| Step { multiple, ..Step::default() }).collect();
    let (mut capacities, rounds) = (0.0, size.choose(2, 4));
    for _ in 0..rounds {
        let capacity = work.capacity(server, size.seconds(1.5, 5.0)).await?;
        capacities += capacity;
        for step in &mut steps {
            step.round(work, server, capacity, size.seconds(2.5, 8.0)).await?;
        }
    }
    Ok((capacities / f64::from(rounds), steps))
}

/// How many of these are so per second once the load has settled, by the time that `when` says.
fn per_second(
    samples: &[Sample],
    time: Duration,
    when: fn(&Sample) -> Duration,
    is_so: fn(&Sample) -> bool,
) -> f64 {
    let window = time.mul_f64(SETTLED)..time;
    let counted = samples.iter().filter(|sample| is_so(sample) && window.contains(&when(sample)));
    as_f64(counted.count()) / (window.end - window.start).as_secs_f64()
}

impl Step {
    async fn round(
        &mut self,
        work: &Work,
        server: &Server,
        capacity: f64,
        time: Duration,
    ) -> Result<(), Trouble> {
        let lanes = work.offered(capacity * self.multiple, time, DEADLINE);
        let pipes = load::connect(server.address(), lanes.len()).await?;
        let busy = server.busy_seconds().await?;
        let (began, cpu) = (Instant::now(), process::cpu_time(server.pid()));
        let duty = Duty { time, linger: DEADLINE + GRACE };
        let samples = Load::start(pipes, lanes, duty)?.finish().await;
        let cpu = process::cpu_time(server.pid()).saturating_sub(cpu);
        self.cores += cpu.as_secs_f64() / began.elapsed().as_secs_f64();
        let in_time = samples.iter().filter(|sample| sample.latency() <= DEADLINE);
        let useful: Duration = in_time.filter_map(Sample::service).sum();
        self.useful += ratio(useful.as_secs_f64(), server.busy_seconds().await? - busy).unwrap_or_default();
        self.done += per_second(
            &samples,
            time,
            |sample| sample.ended,
            |sample| sample.is_done() && sample.latency() <= DEADLINE,
        );
        self.offered += per_second(&samples, time, |sample| sample.due, |_| true);
        self.rounds += 1;
        self.samples.extend(samples);
        Ok(())
    }

    /// Done in time per second.
    fn rate(&self) -> f64 {
        self.done / f64::from(self.rounds.max(1))
    }

    /// The part of the peak that was done, or of what was offered where that was less.
    fn reached(&self, peak: f64) -> f64 {
        let offered = self.offered / f64::from(self.rounds.max(1));
        ratio(self.rate(), peak.min(offered)).unwrap_or_default()
    }
}

impl Step {
    fn figure(&self, work: &Work, peak: f64) -> Figure {
        let count = |is_so: fn(&Sample) -> bool| self.samples.iter().filter(|sample| is_so(sample)).count();
        let (done, refused) = (count(Sample::is_done), count(Sample::is_refused));
        let late = count(|sample| sample.is_done() && sample.latency() > DEADLINE);
        let note = format!(
            "{:.1}/s in time; of {} asked {done} done ({late} late), {refused} refused, {} lost; the daemon had {:.2} cores, \
             {:.0} % of its workers' time was in answers in time",
            self.rate(),
            self.samples.len(),
            self.samples.len() - done - refused,
            self.cores / f64::from(self.rounds.max(1)),
            self.useful / f64::from(self.rounds.max(1)) * 100.0,
        );
        let name = format!("{}: goodput at {:.0}× of the peak", work.name, self.multiple);
        Figure::new(name, self.reached(peak), "").target(Target::AtLeast(0.95)).note(note)
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
