//! The load: one task per connection, requests sent when they are due whatever became of those before them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout_at};
use windlass_protocol::FailureCode;
use windlass_protocol::client::{Address, CallError, Failure, Outcome, Pipe, Request, Template};

use crate::arrivals::Arrivals;
use crate::server;
use crate::trouble::Trouble;

/// Connections that are opened at a time, so that the daemon's backlog does not overflow.
const CONNECTING_MAX: usize = 64;

/// What was due in time is still sent so long after the end: this program, too, waits for a core.
const LATE: Duration = Duration::from_millis(100);

/// From the last connection to the start, so that none begins late.
const HEAD_START: Duration = Duration::from_millis(20);

/// What one connection asks for.
pub(crate) struct Lane {
    /// Its samples are told apart by this.
    pub(crate) tag: &'static str,
    pub(crate) request: Request,
    pub(crate) pace: Pace,
}

/// When a connection sends.
pub(crate) enum Pace {
    /// When requests are due.
    Open(Arrivals),
    /// One for each answer, so that this many are always under way, until so many were sent.
    Closed { in_flight: u16, count_max: usize },
}

/// How long a load lasts.
#[derive(Clone, Copy)]
pub(crate) struct Duty {
    /// Nothing is sent after this.
    pub(crate) time: Duration,
    /// Answers are awaited for so long after that.
    pub(crate) linger: Duration,
}

/// What became of one request. Times count from the start of the load.
pub(crate) struct Sample {
    pub(crate) tag: &'static str,
    pub(crate) due: Duration,
    pub(crate) ended: Duration,
    pub(crate) end: End,
}

pub(crate) enum End {
    Done {
        /// On a worker.
        service: Duration,
    },
    Failed(Failure),
    /// Never answered, or never sent for want of a place.
    Lost,
}

/// A load under way.
pub(crate) struct Load {
    board: Rc<Board>,
    tasks: JoinSet<()>,
}

/// What all connections of a load share.
struct Board {
    start: Instant,
    samples: RefCell<Vec<Sample>>,
    is_stopped: Cell<bool>,
    /// The first Overloaded from this time on stops the load.
    trap: Cell<Option<Duration>>,
    trapped: RefCell<Option<Trapped>>,
    /// The connection that was refused.
    caught: RefCell<Option<Pipe>>,
    bell: Notify,
}

/// What came of counting a sample.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counted {
    Only,
    /// It has stopped the load.
    Trapped,
}

/// The refusal that stopped a load.
#[derive(Clone, Copy)]
pub(crate) struct Trapped {
    pub(crate) at: Instant,
    pub(crate) retry_after: Option<Duration>,
    /// Of the lane that was refused.
    pub(crate) tag: &'static str,
}

impl Pace {
    /// Until the end of the load.
    pub(crate) fn closed(in_flight: u16) -> Self {
        Self::Closed { in_flight, count_max: usize::MAX }
    }
}

impl Sample {
    pub(crate) fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.due)
    }

    /// On a worker, of what was done.
    pub(crate) fn service(&self) -> Option<Duration> {
        match self.end {
            End::Done { service } => Some(service),
            End::Failed(_) | End::Lost => None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.end, End::Done { .. })
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.end, End::Failed(_))
    }
}

/// Opens a connection for each lane, a few at a time.
pub(crate) async fn connect(address: &Address, count: usize) -> Result<Vec<Pipe>, Trouble> {
    let (mut pipes, mut opening, mut begun) = (Vec::with_capacity(count), JoinSet::new(), 0);
    loop {
        while begun < count && opening.len() < CONNECTING_MAX {
            let address = address.clone();
            opening.spawn_local(async move { Pipe::connect(&address, &server::options()).await });
            begun += 1;
        }
        let Some(opened) = opening.join_next().await else { return Ok(pipes) };
        let opened = opened.expect("connecting does not panic");
        pipes.push(opened.map_err(|error| Trouble::call("opening a connection", error))?);
    }
}

/// Runs the lanes, each on a connection of its own, to their end.
pub(crate) async fn run(address: &Address, lanes: Vec<Lane>, duty: Duty) -> Result<Vec<Sample>, Trouble> {
    let pipes = connect(address, lanes.len()).await?;
    Ok(Load::start(pipes, lanes, duty)?.finish().await)
}

impl Load {
    /// Starts the lanes on connections that are there.
    pub(crate) fn start(pipes: Vec<Pipe>, lanes: Vec<Lane>, duty: Duty) -> Result<Self, Trouble> {
        let board = Rc::new(Board {
            start: Instant::now() + HEAD_START,
            samples: RefCell::new(Vec::new()),
            is_stopped: Cell::new(false),
            trap: Cell::new(None),
            trapped: RefCell::new(None),
            caught: RefCell::new(None),
            bell: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        for (pipe, lane) in pipes.into_iter().zip(lanes) {
            let template = Template::new(&lane.request, pipe.terms())
                .map_err(|error| Trouble::call("making a request", error))?;
            let allowed = u16::try_from(pipe.terms().in_flight_max).unwrap_or(u16::MAX).max(1);
            let (places, arrivals, count_max) = match lane.pace {
                Pace::Open(arrivals) => (allowed, Some(arrivals), usize::MAX),
                Pace::Closed { in_flight, count_max } => (in_flight.min(allowed), None, count_max),
            };
            let driver = Driver {
                pipe,
                template,
                tag: lane.tag,
                due: vec![Duration::ZERO; usize::from(places)],
                is_free: vec![true; usize::from(places)],
                free: (0..places).rev().collect(),
                arrivals,
                count_max,
                sent: 0,
                duty,
                board: Rc::clone(&board),
                has_trapped: false,
            };
            tasks.spawn_local(driver.drive());
        }
        Ok(Self { board, tasks })
    }

    /// Waits until everything is answered or given up.
    pub(crate) async fn finish(mut self) -> Vec<Sample> {
        while self.tasks.join_next().await.is_some() {}
        std::mem::take(&mut *self.board.samples.borrow_mut())
    }

    /// Stops the load at the first Overloaded after `after`; `None` when there is none before `patience` is over. What
    /// was sent is still answered. Beside it the connection that was refused.
    pub(crate) async fn trap(&self, after: Duration, patience: Duration) -> Option<(Trapped, Pipe)> {
        self.board.trap.set(Some(after));
        let _rung = tokio::time::timeout(patience, self.board.bell.notified()).await;
        self.board.is_stopped.set(true);
        self.board.trapped.borrow().zip(self.board.caught.borrow_mut().take())
    }
}

impl Board {
    fn now(&self) -> Duration {
        Instant::now().saturating_duration_since(self.start)
    }

    fn count(&self, sample: Sample) -> Counted {
        if let (End::Failed(failure), Some(after)) = (&sample.end, self.trap.get())
            && failure.code == FailureCode::OVERLOADED
            && sample.ended >= after
            && !self.is_stopped.get()
        {
            self.is_stopped.set(true);
            let trapped = Trapped { at: Instant::now(), retry_after: failure.retry_after, tag: sample.tag };
            *self.trapped.borrow_mut() = Some(trapped);
            self.samples.borrow_mut().push(sample);
            return Counted::Trapped;
        }
        self.samples.borrow_mut().push(sample);
        Counted::Only
    }
}

/// One connection under load.
struct Driver {
    pipe: Pipe,
    template: Template,
    tag: &'static str,
    /// When the request in each slot was due.
    due: Vec<Duration>,
    is_free: Vec<bool>,
    free: Vec<u16>,
    /// `None` in a closed loop.
    arrivals: Option<Arrivals>,
    /// How many are sent at most.
    count_max: usize,
    /// How many were sent.
    sent: usize,
    duty: Duty,
    board: Rc<Board>,
    /// Whether a refusal here has stopped the load. Then the connection goes to whoever has set the trap.
    has_trapped: bool,
}

impl Driver {
    async fn drive(mut self) {
        let give_up = self.board.start + self.duty.time + self.duty.linger;
        // Whether the connection broke or the time is over: what is not answered now is lost.
        let _ended = timeout_at(give_up.into(), self.run()).await;
        if self.has_trapped {
            *self.board.caught.borrow_mut() = Some(self.pipe);
            return self.board.bell.notify_one();
        }
        let ended = self.board.now();
        let (tag, board) = (self.tag, Rc::clone(&self.board));
        let lost = |due| {
            board.count(Sample { tag, due, ended, end: End::Lost });
        };
        let open = self.due.iter().zip(&self.is_free).filter(|(_, is_free)| !**is_free);
        open.for_each(|(due, _)| lost(*due));
        if !self.board.is_stopped.get() {
            self.arrivals.iter().flatten().skip(self.sent).for_each(|due| lost(*due));
        }
    }

    async fn run(&mut self) -> Result<(), CallError> {
        sleep_until(self.board.start.into()).await;
        while !self.has_trapped {
            let next = self.push_due();
            let is_idle = self.free.len() == self.due.len();
            match next {
                Some(next) if is_idle => sleep_until(next.into()).await,
                Some(next) => {
                    tokio::select! {
                        biased;
                        turned = self.turn() => turned?,
                        () = sleep_until(next.into()) => {}
                    }
                }
                None if is_idle => return Ok(()),
                None => self.turn().await?,
            }
        }
        Ok(())
    }

    /// Pushes what is due, and says when to come back for more; `None` when there is nothing to come back for before
    /// an answer frees a place.
    fn push_due(&mut self) -> Option<Instant> {
        let now = self.board.now();
        let end = if self.arrivals.is_some() { self.duty.time + LATE } else { self.duty.time };
        if now >= end || self.board.is_stopped.get() || self.pipe.is_leaving() {
            return None;
        }
        loop {
            let due = match &self.arrivals {
                None if self.sent >= self.count_max => return None,
                None => now,
                Some(arrivals) => *arrivals.get(self.sent)?,
            };
            if due > now {
                return Some(self.board.start + due);
            }
            let slot = self.free.pop()?;
            self.due[usize::from(slot)] = due;
            self.is_free[usize::from(slot)] = false;
            self.pipe.push(&self.template, slot);
            self.sent += 1;
        }
    }

    /// Sends what was pushed and counts what came back.
    async fn turn(&mut self) -> Result<(), CallError> {
        let Self { pipe, due, is_free, free, board, tag, has_trapped, .. } = self;
        pipe.turn(|slot, outcome| {
            let place = usize::from(slot);
            if is_free.get(place) != Some(&false) {
                return;
            }
            is_free[place] = true;
            free.push(slot);
            let end = match outcome {
                Outcome::Reply { service_time, .. } => End::Done { service: service_time },
                Outcome::Failure(failure) => End::Failed(failure),
            };
            let counted = board.count(Sample { tag, due: due[place], ended: board.now(), end });
            *has_trapped |= counted == Counted::Trapped;
        })
        .await
    }
}
