//! Clients that leave: how soon the workers are free of those who asked for a second of work and are gone.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::time::sleep;
use windlass_protocol::client::{CallError, Pipe, Request, Template};

use super::Size;
use crate::figure::{Figure, Target};
use crate::load;
use crate::numbers::{as_f64, milliseconds};
use crate::server::{self, Server};
use crate::trouble::Trouble;

/// Nobody is refused for having to wait: they are gone long before.
const PATIENT: [(&str, &str); 2] = [("queue.max_wait", "10m"), ("timeouts.deadline_default", "10m")];

/// How long is looked until the workers are free.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answered at once is within this.
const AT_ONCE: Duration = Duration::from_millis(50);

pub(crate) async fn run(size: Size) -> Result<Vec<Figure>, Trouble> {
    let clients = size.choose(300, 1000);
    let server = Server::start(&PATIENT).await?;
    let attempted = |error| Trouble::call("asking a fresh request", error);
    let mut fresh = Pipe::connect(server.address(), &server::options()).await.map_err(attempted)?;
    let light = Request::new("hash").body("fresh").deadline(PATIENCE);
    let light = Template::new(&light, fresh.terms()).map_err(attempted)?;

    let mut pipes = load::connect(server.address(), clients).await?;
    let heavy = Request::new("spin").parameter("for", "1s").deadline(Duration::from_secs(600));
    for pipe in &mut pipes {
        let template = Template::new(&heavy, pipe.terms()).map_err(attempted)?;
        pipe.push(&template, 0);
        // It waits for an answer, which does not come: what it pushed is sent by then.
        let _sent = tokio::time::timeout(Duration::from_millis(1), pipe.turn(|_, _| {})).await;
    }
    await_status(&server, |status| waiting(status) + running(status) + ended(status) >= clients).await?;
    let accepted = waiting(&server.status().await?);

    drop(pipes);
    let gone = Instant::now();
    let mut twice = 0_usize;
    let free = await_status(&server, |status| {
        // A permit is a place of what waits and runs: fewer permits than running jobs are permits given out twice.
        let admitted = count(status, "/queue/admitted");
        twice += usize::from(admitted < running(status));
        running(status) == 0 && waiting(status) == 0
    });
    let (answered, free) = tokio::join!(until_served_at_once(&mut fresh, &light), free);
    let (answered, free) = (answered.map_err(attempted)?, free?);
    Ok(vec![
        Figure::new(
            "a fresh request is served at once after",
            answered.map(|at| milliseconds(at - gone)),
            "ms",
        )
        .target(Target::Below(50.0))
        .note(format!("{clients} clients vanished with {accepted} requests waiting")),
        Figure::new("every worker is free after", free.map(|at| milliseconds(at - gone)), "ms")
            .note("by its status"),
        Figure::new("looks that showed fewer permits than running jobs", as_f64(twice), "")
            .target(Target::Below(1.0)),
    ])
}

/// Asks light requests one after the other; when the first that was served at once was answered.
async fn until_served_at_once(fresh: &mut Pipe, light: &Template) -> Result<Option<Instant>, CallError> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        let sent = Instant::now();
        fresh.push(light, 0);
        let mut is_answered = false;
        while !is_answered {
            fresh.turn(|_, _| is_answered = true).await?;
        }
        if sent.elapsed() <= AT_ONCE {
            return Ok(Some(Instant::now()));
        }
    }
    Ok(None)
}

/// Looks again and again until it `is_so`; `None` when that does not come.
async fn await_status(
    server: &Server,
    mut is_so: impl FnMut(&Value) -> bool,
) -> Result<Option<Instant>, Trouble> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if is_so(&server.status().await?) {
            return Ok(Some(Instant::now()));
        }
        sleep(Duration::from_millis(2)).await;
    }
    Ok(None)
}

fn count(status: &Value, pointer: &str) -> usize {
    status.pointer(pointer).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok()).unwrap_or(0)
}

fn waiting(status: &Value) -> usize {
    count(status, "/queue/waiting")
}

fn running(status: &Value) -> usize {
    let workers = status["workers"].as_array().map_or(&[][..], Vec::as_slice);
    workers.iter().filter(|worker| !worker["running"].is_null()).count()
}

/// How many of the heavy ones have been answered already.
fn ended(status: &Value) -> usize {
    let outcomes = status.pointer("/requests/spin").and_then(Value::as_object);
    let counts = outcomes.into_iter().flatten().filter_map(|(_, count)| count.as_u64());
    usize::try_from(counts.sum::<u64>()).unwrap_or(usize::MAX)
}
