//! No wasted work: of the workers' time at ten times the capacity, how much went into answers that somebody got in time.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use windlass_protocol::client::{Address, Outcome, Pipe, Template};

use super::{ARGON2ID, GRACE, SPIN_5_MS, Size, Work};
use crate::figure::{Figure, Target};
use crate::load::{self, Duty, Load};
use crate::numbers::ratio;
use crate::server::{self, Server};
use crate::trouble::Trouble;

const DEADLINE: Duration = Duration::from_secs(1);

/// How long each of the clients that leave has patience: long enough to be admitted, too short to be served.
const PATIENCE: Duration = Duration::from_millis(50);

/// Requests that each of them leaves behind.
const LEFT_BEHIND: u16 = 4;

pub(crate) async fn run(size: Size) -> Result<Vec<Figure>, Trouble> {
    let mut figures = Vec::new();
    for work in [SPIN_5_MS, ARGON2ID] {
        let server = Server::start(&[]).await?;
        let capacity = work.capacity(&server, size.seconds(1.5, 5.0)).await?;
        let time = size.seconds(3.0, 20.0);
        let before = server.busy_seconds().await?;
        let lanes = work.offered(capacity * 10.0, time, DEADLINE);
        let pipes = load::connect(server.address(), lanes.len()).await?;
        let load = Load::start(pipes, lanes, Duty { time, linger: DEADLINE + GRACE })?;
        let leavers = leavers(work, server.address().clone(), time);
        let samples = load.finish().await;
        let (left, useful_of_leavers) = leavers.await.expect("a leaver does not panic")?;
        let busy = server.busy_seconds().await? - before;
        let in_time = samples.iter().filter(|sample| sample.latency() <= DEADLINE);
        let useful: Duration =
            in_time.filter_map(load::Sample::service).sum::<Duration>() + useful_of_leavers;
        let wasted = ratio(busy - useful.as_secs_f64(), busy).map(|part| part.max(0.0));
        figures.push(
            Figure::new(format!("{}: CPU time for nobody at 10×", work.name), wasted, "of it")
                .target(Target::Below(0.01))
                .note(format!(
                    "{busy:.2} s busy by the metrics, {:.2} s in answers in time; {left} clients left meanwhile",
                    useful.as_secs_f64()
                )),
        );
    }
    Ok(figures)
}

/// Clients that come one after the other, ask and leave without waiting: how many, and the service time of what they
/// were answered before.
fn leavers(work: Work, address: Address, time: Duration) -> JoinHandle<Result<(u32, Duration), Trouble>> {
    tokio::task::spawn_local(async move {
        let attempted = |error| Trouble::call("coming as a client that leaves", error);
        let (mut left, mut useful) = (0, Duration::ZERO);
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            let mut pipe = Pipe::connect(&address, &server::options()).await.map_err(attempted)?;
            let template = Template::new(&work.request(DEADLINE), pipe.terms()).map_err(attempted)?;
            (0..LEFT_BEHIND).for_each(|slot| pipe.push(&template, slot));
            let answers = async {
                loop {
                    pipe.turn(|_, outcome| match outcome {
                        Outcome::Reply { service_time, .. } => useful += service_time,
                        Outcome::Failure(_) => {}
                    })
                    .await?;
                }
            };
            // It has left, whether its patience or the connection ended.
            let _ended: Result<Result<(), windlass_protocol::client::CallError>, _> =
                timeout(PATIENCE, answers).await;
            left += 1;
            drop(pipe);
            sleep(PATIENCE).await;
        }
        Ok((left, useful))
    })
}
