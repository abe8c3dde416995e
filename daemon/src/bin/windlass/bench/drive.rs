//! The load itself: threads, and one loop per connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout_at;
use windlass_protocol::client::{CallError, Pipe, Template};

use super::Plan;
use super::pacer::Pacer;
use super::tally::Tally;
use crate::exit::{Exit, Problem};

/// How long answers are awaited after the last request was sent, beyond its deadline.
const LINGER: Duration = Duration::from_secs(5);

/// Connections that are opened at a time, so that the daemon's backlog does not overflow.
const CONNECTING_MAX: usize = 64;

/// Drives the connections of one thread: every `plan.threads`-th, starting at `thread`.
pub(super) fn thread(plan: &Plan, thread: u32, ready: &Barrier) -> Result<Tally, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let connected = match &runtime {
        Ok(runtime) => runtime.block_on(connect(plan, thread)),
        Err(error) => Err(Problem::new(Exit::Internal, format!("cannot start the I/O runtime: {error}"))),
    };
    // Every thread comes here, connected or not: the others wait for it.
    ready.wait();
    let (pipes, runtime) = (connected?, runtime.expect("it has connected"));
    LocalSet::new().block_on(&runtime, drive_all(plan, pipes))
}

async fn connect(plan: &Plan, thread: u32) -> Result<Vec<(u32, Pipe)>, Problem> {
    let mut pipes = Vec::new();
    let mut opening = JoinSet::new();
    let mut indices = (thread..plan.connections).step_by(plan.threads as usize);
    loop {
        while opening.len() < CONNECTING_MAX {
            let Some(index) = indices.next() else { break };
            let address = plan.address.clone();
            opening.spawn(async move { (index, Pipe::connect(&address, &crate::options()).await) });
        }
        let Some(opened) = opening.join_next().await else { return Ok(pipes) };
        let (index, pipe) = opened.expect("connecting does not panic");
        let pipe = pipe.map_err(|error| {
            Problem::from_call(&format!("opening connection {index} to {}", plan.address), &error)
        })?;
        pipes.push((index, pipe));
    }
}

async fn drive_all(plan: &Plan, pipes: Vec<(u32, Pipe)>) -> Result<Tally, Problem> {
    let tally = Rc::new(RefCell::new(Tally::new()));
    let start = Instant::now();
    let mut driving = JoinSet::new();
    for (index, pipe) in pipes {
        let template = Template::new(&plan.request, pipe.terms())
            .map_err(|error| Problem::from_call(&format!("a request to {}", plan.address), &error))?;
        let places = places(plan, pipe.terms().in_flight_max)?;
        let pacer = plan.rate.map(|_| Pacer::new()).transpose();
        let pacer =
            pacer.map_err(|error| Problem::new(Exit::Internal, format!("cannot make a timer: {error}")))?;
        let driver = Driver {
            pipe,
            template,
            began: vec![start; usize::from(places)],
            free: (0..places).rev().collect(),
            due: plan.rate.map(|rate| Due::new(start, index, plan.connections, rate)),
            pacer,
            end: start + plan.duration,
            give_up: start + plan.duration + plan.request.deadline.unwrap_or_default() + LINGER,
            tally: Rc::clone(&tally),
        };
        driving.spawn_local(driver.run());
    }
    while driving.join_next().await.is_some() {}
    drop(driving);
    let mut tally = Rc::into_inner(tally).expect("every driver has ended").into_inner();
    tally.elapsed = plan.duration;
    Ok(tally)
}

/// How many requests one connection keeps in flight.
fn places(plan: &Plan, in_flight_max: u32) -> Result<u16, Problem> {
    let allowed = u16::try_from(in_flight_max).unwrap_or(u16::MAX).max(1);
    match (plan.pipeline, plan.rate) {
        (Some(asked), _) if asked > allowed => Err(Problem::new(
            Exit::Usage,
            format!(
                "--pipeline {asked} is more than the {allowed} requests in flight that the daemon allows"
            ),
        )),
        (Some(asked), _) => Ok(asked),
        (None, Some(_)) => Ok(allowed),
        (None, None) => Ok(1),
    }
}

/// When the requests of one connection are due: the connections take turns.
struct Due {
    first: Instant,
    interval_nanos: f64,
    count: u64,
}

impl Due {
    fn new(start: Instant, index: u32, connections: u32, rate: u32) -> Self {
        let first = start + Duration::from_secs_f64(f64::from(index) / f64::from(rate));
        Self { first, interval_nanos: f64::from(connections) / f64::from(rate) * 1e9, count: 0 }
    }

    /// When the next request is due.
    fn next(&self) -> Instant {
        // Multiplied, not added up: an error of rounding must not grow over the run.
        #[allow(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
        let nanos = self.interval_nanos * self.count as f64;
        self.first + Duration::from_secs_f64(nanos / 1e9)
    }
}

/// One connection under load.
struct Driver {
    pipe: Pipe,
    template: Template,
    /// When the request in each slot was sent, or was due.
    began: Vec<Instant>,
    free: Vec<u16>,
    /// These two: `None` in a closed loop.
    due: Option<Due>,
    pacer: Option<Pacer>,
    end: Instant,
    give_up: Instant,
    tally: Rc<RefCell<Tally>>,
}

impl Driver {
    async fn run(mut self) {
        let give_up = self.give_up.into();
        let result = match self.pacer.take() {
            Some(pacer) => timeout_at(give_up, self.open_loop(&pacer)).await,
            None => timeout_at(give_up, self.closed_loop()).await,
        };
        let unanswered = (self.began.len() - self.free.len()) as u64;
        let mut tally = self.tally.borrow_mut();
        match result {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tally.lose(&error.to_string(), unanswered),
            Err(_) => tally.unanswered += unanswered,
        }
        while let Some(due) = self.due.as_mut().filter(|due| due.next() < self.end) {
            due.count += 1;
            tally.unsent += 1;
        }
    }

    /// A new request for every answer, until the time is over; then the rest of the answers.
    async fn closed_loop(&mut self) -> Result<(), CallError> {
        loop {
            let now = Instant::now();
            while now < self.end && !self.pipe.is_leaving() {
                let Some(slot) = self.free.pop() else { break };
                self.push(slot, now);
            }
            if self.free.len() == self.began.len() {
                return Ok(());
            }
            self.turn().await?;
        }
    }

    /// Every request when it is due, or as soon after it as there is a place.
    async fn open_loop(&mut self, pacer: &Pacer) -> Result<(), CallError> {
        loop {
            let next = self.push_due();
            let is_idle = self.free.len() == self.began.len();
            match next {
                Some(next) if is_idle => {
                    let _reached = pacer.until(next).await;
                }
                Some(next) => {
                    tokio::select! {
                        biased;
                        turned = self.turn() => turned?,
                        _ = pacer.until(next) => {}
                    }
                }
                None if is_idle => return Ok(()),
                None => self.turn().await?,
            }
        }
    }

    /// Pushes what is due, and says when to come back for more; `None` when there is nothing to come back for
    /// before an answer frees a place.
    fn push_due(&mut self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let next = self.due.as_ref()?.next();
            if next >= self.end || self.pipe.is_leaving() || self.free.is_empty() {
                return None;
            }
            if next > now {
                return Some(next);
            }
            let slot = self.free.pop()?;
            self.push(slot, next);
            self.due.as_mut()?.count += 1;
        }
    }

    fn push(&mut self, slot: u16, began: Instant) {
        self.began[usize::from(slot)] = began;
        self.pipe.push(&self.template, slot);
    }

    /// Sends what was pushed and counts what came back.
    async fn turn(&mut self) -> Result<(), CallError> {
        let Self { pipe, began, free, end, tally, .. } = self;
        let mut now = None;
        pipe.turn(|slot, outcome| {
            let now = *now.get_or_insert_with(Instant::now);
            if let Some(began) = began.get(usize::from(slot)) {
                tally.borrow_mut().count(&outcome, *began, now, *end);
                free.push(slot);
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_all_connections_are_due_at_even_distances() {
        let start = Instant::now();
        let mut all: Vec<_> = (0..4)
            .flat_map(|index| {
                let mut due = Due::new(start, index, 4, 1000);
                (0..5).map(move |count| {
                    due.count = count;
                    due.next()
                })
            })
            .collect();
        all.sort_unstable();
        for (index, due) in all.iter().enumerate() {
            let expected = start + Duration::from_millis(index as u64);
            let error = (*due - start).abs_diff(expected - start);
            assert!(error < Duration::from_micros(1), "{index}: {error:?}");
        }
    }
}
