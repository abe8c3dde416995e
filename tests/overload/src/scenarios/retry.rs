//! Whether what a refused request is told of coming back is true: the load stops at a refusal, and the same is asked again
//! until it is admitted.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use windlass_protocol::client::{Address, Outcome, Pipe, Request, Template};

use super::{GRACE, Size, Work};
use crate::arrivals;
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, Lane, Load, Pace, Trapped};
use crate::numbers::{percentile, ratio};
use crate::server::Server;
use crate::trouble::Trouble;

/// How long each answer is wanted.
const DEADLINE: Duration = Duration::from_secs(1);

/// How long a refused request is probed for.
const PROBE_PATIENCE: Duration = Duration::from_secs(20);

/// Pause between two probes, where nothing was said of when to come back; otherwise a twentieth of what was said.
const PROBE_PAUSE: Duration = Duration::from_millis(5);

/// Probes are told from what is under way on the same connection by this.
const PROBE_SLOT: u16 = u16::MAX;

/// Most connections of those who come by a new one each time. One for each request where that is not more: who has
/// something under way on its connection waits for longer than a stranger does, and is told so.
const STRANGERS_MAX: u16 = 16_000;

/// Light clients beside an importer, and what each of them asks for per second.
const LIGHT_CLIENTS: u8 = 10;
const LIGHT_RATE: f64 = 20.0;

/// Who asks, and who comes back.
#[derive(Clone, Copy)]
enum Case {
    /// Clients of one address, which is one client.
    OneAddress,
    /// Clients who ask for as much each; the one that was refused comes back.
    Equal,
    /// One who asks for much beside light ones; it comes back.
    Importer,
    /// A connection for each request.
    Strangers,
}

impl Case {
    const ALL: [Self; 4] = [Self::OneAddress, Self::Equal, Self::Importer, Self::Strangers];

    fn name(self) -> &'static str {
        match self {
            Self::OneAddress => "one address",
            Self::Equal => "equal connections",
            Self::Importer => "an importer beside light clients",
            Self::Strangers => "a connection per request",
        }
    }

    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::OneAddress => &[("queue.fair_by", "address")],
            Self::Equal | Self::Importer | Self::Strangers => &[],
        }
    }

    fn lanes(self, work: &Work, per_second: f64, time: Duration) -> Vec<Lane> {
        let light = |client: u8| Lane {
            tag: "light",
            request: Request::new("hash").body(vec![client; 1024]).deadline(DEADLINE),
            pace: Pace::Open(arrivals::even(
                LIGHT_RATE,
                f64::from(client) / f64::from(LIGHT_CLIENTS) / LIGHT_RATE,
                time,
            )),
        };
        match self {
            Self::OneAddress | Self::Equal => work.offered(per_second, time, DEADLINE),
            Self::Strangers => {
                let one_each = per_second * time.as_secs_f64();
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
                let strangers = one_each.min(f64::from(STRANGERS_MAX)) as usize;
                work.offered_over(strangers, per_second, time, DEADLINE)
            }
            Self::Importer => {
                let importer = work.offered_over(1, per_second, time, DEADLINE);
                importer.into_iter().chain((0..LIGHT_CLIENTS).map(light)).collect()
            }
        }
    }
}

/// Whom the probes come from.
enum Prober<'a> {
    /// Another connection, or the one that was refused.
    Known(Box<Pipe>),
    /// A new connection for each.
    New(&'a Address),
}

pub(super) async fn run(work: &Work, per_second: f64, size: Size) -> Result<Vec<Figure>, Trouble> {
    let mut figures = Vec::new();
    for case in Case::ALL {
        let server = Server::start(case.settings()).await?;
        figures.push(measure(case, work, &server, per_second, size).await?);
    }
    Ok(figures)
}

async fn measure(
    case: Case,
    work: &Work,
    server: &Server,
    per_second: f64,
    size: Size,
) -> Result<Figure, Trouble> {
    let (mut told, mut ratios, mut truths) = (0_u32, Vec::new(), Vec::new());
    let trials = size.choose(3, 8);
    for _ in 0..trials {
        let Some((trapped, truth)) = trial(case, work, server, per_second, size).await? else { continue };
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
    let name = format!("{}: retry_after over the truth, {}", work.name, case.name());
    Ok(Figure::new(name, percentile(&mut ratios, 50.0), "").target(Target::Within(0.5, 2.0)).note(note))
}

/// What a refusal said, and how long it really took until the same request was admitted. `None` when nothing was
/// refused, or not admitted again in time.
async fn trial(
    case: Case,
    work: &Work,
    server: &Server,
    per_second: f64,
    size: Size,
) -> Result<Option<(Trapped, Duration)>, Trouble> {
    let settled = size.seconds(1.2, 3.0);
    let time = settled + size.seconds(1.0, 2.0);
    let lanes = case.lanes(work, per_second, time);
    let mut pipes = load::connect(server.address(), lanes.len() + 1).await?;
    // Connected before it is needed: the truth may be a few milliseconds.
    let Some(other) = pipes.pop() else { return Ok(None) };
    let load = Load::start(pipes, lanes, Duty { time, linger: DEADLINE + GRACE })?;
    let Some((trapped, refused)) = load.trap(settled, time).await else {
        load.finish().await;
        return Ok(None);
    };
    let prober = match case {
        Case::OneAddress => Prober::Known(Box::new(other)),
        Case::Equal | Case::Importer => Prober::Known(Box::new(refused)),
        Case::Strangers => Prober::New(server.address()),
    };
    let truth = timeout(PROBE_PATIENCE, probe(work, prober, trapped)).await.ok().transpose()?;
    load.finish().await;
    Ok((trapped.tag != "light").then_some(trapped).zip(truth))
}

/// Sends the same request again and again, until one is not refused: how long after the refusal that one was sent.
async fn probe(work: &Work, mut prober: Prober<'_>, trapped: Trapped) -> Result<Duration, Trouble> {
    let pause = trapped.retry_after.map_or(PROBE_PAUSE, |time| (time / 20).max(Duration::from_millis(1)));
    loop {
        let mut new = match &prober {
            Prober::Known(_) => None,
            Prober::New(address) => load::connect(address, 1).await?.pop(),
        };
        let pipe = match (&mut prober, &mut new) {
            (Prober::Known(pipe), _) => pipe,
            (Prober::New(_), Some(pipe)) => pipe,
            (Prober::New(_), None) => continue,
        };
        let sent = Instant::now();
        if is_admitted(work, pipe).await? {
            return Ok(sent.saturating_duration_since(trapped.at));
        }
        sleep(pause).await;
    }
}

async fn is_admitted(work: &Work, pipe: &mut Pipe) -> Result<bool, Trouble> {
    let attempted = |error| Trouble::call("probing with a refused request", error);
    let template = Template::new(&work.request(DEADLINE), pipe.terms()).map_err(attempted)?;
    pipe.push(&template, PROBE_SLOT);
    let mut is_done = None;
    while is_done.is_none() {
        let turned = pipe.turn(|slot, outcome| {
            if slot == PROBE_SLOT {
                is_done = Some(matches!(outcome, Outcome::Reply { .. }));
            }
        });
        turned.await.map_err(attempted)?;
    }
    Ok(is_done == Some(true))
}
