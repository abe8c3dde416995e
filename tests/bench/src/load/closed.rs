//! The closed loop: a new request for every answer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{Timespec, epoll::Event};
use rustix::time::{ClockId, clock_gettime};

use super::idle::hold;
use super::link::{Address, Link, Open};
use super::protocol::{Kind, Protocol};
use crate::trouble::{Attempt, Result, failed};

/// What one read takes at most: many answers, or a good part of a large one.
const BUFFER_BYTES: usize = 256 << 10;

/// Without an answer for this long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) connections: usize,
    /// On each connection; or, with `rotate`, on all together.
    pub(crate) in_flight: usize,
    /// The next request goes to the connection that has been idle for longest.
    pub(crate) rotate: bool,
    /// Whether the time of each answer is kept; only with one request in flight on a connection.
    pub(crate) times: bool,
    /// Load that is not counted.
    pub(crate) warm_up: Duration,
    pub(crate) duration: Duration,
}

impl Shape {
    pub(crate) const fn new(connections: usize, in_flight: usize, duration: Duration) -> Self {
        let warm_up = Duration::from_millis(300);
        Self { connections, in_flight, rotate: false, times: false, warm_up, duration }
    }
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) replies: u64,
    pub(crate) refused: u64,
    pub(crate) elapsed: Duration,
    /// What the load generator's own thread computed for.
    pub(crate) client_cpu: Duration,
    /// Nanoseconds.
    pub(crate) times: Vec<u64>,
    /// After the end: requests on their way that had their result, another answer, or none.
    pub(crate) late: u64,
    pub(crate) turned_away: u64,
    pub(crate) lost: u64,
}

impl Tally {
    #[allow(clippy::cast_precision_loss, reason = "counts of requests stay far below 2^52")]
    pub(crate) fn per_second(&self) -> f64 {
        self.replies as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs a load against a peer. With `at_end`, no request follows it, and what is on its way is waited for.
pub(crate) fn closed_loop(
    protocol: &dyn Protocol,
    address: &Address,
    shape: Shape,
    at_end: Option<&dyn Fn()>,
) -> Result<Tally> {
    // Those who take turns are many, and none of them may be greeted late.
    let links = match shape.rotate {
        true => hold(protocol, address, shape.connections)?,
        false => (0..shape.connections).map(|_| Link::open(address, protocol)).collect::<Result<_>>()?,
    };
    let mut driver = Driver::new(protocol, links, shape)?;
    driver.start()?;
    driver.turn_until(Instant::now() + shape.warm_up)?;
    let cpu = thread_cpu();
    let began = Instant::now();
    driver.tally = Tally::default();
    driver.turn_until(began + shape.duration)?;
    driver.tally.elapsed = began.elapsed();
    driver.tally.client_cpu = thread_cpu().saturating_sub(cpu);
    if let Some(at_end) = at_end {
        driver.finish(at_end)?;
    }
    let tally = driver.tally;
    // A load that is refused is another load.
    if tally.refused > 0 {
        return failed(format!("{} requests were refused beside {} replies", tally.refused, tally.replies));
    }
    if tally.replies + tally.late == 0 {
        return failed("no request was answered");
    }
    Ok(tally)
}

/// What this thread has computed for.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

struct Driver<'p> {
    protocol: &'p dyn Protocol,
    links: Vec<Link>,
    /// When the request of each was sent, where times are kept.
    sent_at: Vec<Instant>,
    /// Whose turn it is, where connections rotate.
    idle: VecDeque<usize>,
    shape: Shape,
    poll: rustix::fd::OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    answered_at: Instant,
    tally: Tally,
    /// Whether answers are followed by requests.
    goes_on: bool,
}

impl<'p> Driver<'p> {
    fn new(protocol: &'p dyn Protocol, links: Vec<Link>, shape: Shape) -> Result<Self> {
        let poll = epoll::create(CreateFlags::CLOEXEC).trying("make an epoll")?;
        for (index, link) in links.iter().enumerate() {
            // By edges: what is ready is read and written until it is not.
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&poll, &link.socket, EventData::new_u64(index as u64), interest)
                .trying("watch a socket")?;
        }
        Ok(Self {
            protocol,
            sent_at: vec![Instant::now(); links.len()],
            idle: VecDeque::new(),
            links,
            shape,
            poll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES],
            answered_at: Instant::now(),
            tally: Tally::default(),
            goes_on: true,
        })
    }

    fn start(&mut self) -> Result<()> {
        let (busy, in_flight) = match self.shape.rotate {
            true => (self.shape.in_flight.min(self.links.len()), 1),
            false => (self.links.len(), self.shape.in_flight),
        };
        self.idle = (busy..self.links.len()).collect();
        for index in 0..self.links.len() {
            self.links[index].pending = if index < busy { in_flight } else { 0 };
            self.send(index)?;
        }
        Ok(())
    }

    fn send(&mut self, index: usize) -> Result<()> {
        if self.shape.times && self.links[index].pending > 0 {
            self.sent_at[index] = Instant::now();
        }
        match self.links[index].flush(self.protocol)? {
            Open::No if self.goes_on => failed("the peer closed a connection under load"),
            _ => Ok(()),
        }
    }

    fn turn_until(&mut self, end: Instant) -> Result<()> {
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            if now - self.answered_at > PATIENCE {
                return failed(format!("no answer for {PATIENCE:?}"));
            }
            self.turn(end - now)?;
        }
    }

    fn turn(&mut self, wait_max: Duration) -> Result<()> {
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        let timeout = Timespec {
            tv_sec: i64::try_from(wait_max.as_secs()).unwrap_or(1),
            tv_nsec: wait_max.subsec_nanos().into(),
        };
        match epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return failed(format!("cannot wait for sockets: {error}")),
        }
        if !events.is_empty() {
            self.answered_at = Instant::now();
        }
        for event in &events {
            let index = usize::try_from(event.data.u64()).expect("it was an index before");
            let flags = event.flags;
            if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
                self.receive(index)?;
            } else {
                self.send(index)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let (mut replies, mut refused) = (0, 0);
        let mut on = |kind| match kind {
            Kind::Reply => replies += 1,
            Kind::Refused => refused += 1,
            Kind::Ready | Kind::Other => {}
        };
        let open = self.links[index].receive(self.protocol, &mut self.buffer, &mut on)?;
        self.tally.replies += replies;
        self.tally.refused += refused;
        if self.shape.times && replies > 0 {
            let time = self.sent_at[index].elapsed();
            self.tally.times.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
        if open == Open::No {
            if self.goes_on {
                return failed("the peer closed a connection under load");
            }
            let link = &mut self.links[index];
            link.in_flight = 0;
            // It would be ready for ever.
            epoll::delete(&self.poll, &link.socket).trying("forget a socket")?;
            return Ok(());
        }
        if self.goes_on { self.answer_with(index, replies + refused) } else { Ok(()) }
    }

    /// Sends as many requests as were answered, here or where it is longest ago.
    fn answer_with(&mut self, index: usize, n_answers: u64) -> Result<()> {
        let n_answers = usize::try_from(n_answers).expect("one read has a bounded number of answers");
        if !self.shape.rotate {
            self.links[index].pending += n_answers;
            // Also when there was no answer: the socket may have room again.
            return self.send(index);
        }
        if n_answers > 0 {
            self.idle.push_back(index);
            let next = self.idle.pop_front().expect("one was added just now");
            self.links[next].pending += 1;
            return self.send(next);
        }
        self.send(index)
    }

    /// Sends nothing any more, does what is to be done, and hears those out who were asked something.
    fn finish(&mut self, at_end: &dyn Fn()) -> Result<()> {
        self.goes_on = false;
        for link in &mut self.links {
            link.pending = 0;
        }
        let (replies, refused) = (self.tally.replies, self.tally.refused);
        let on_their_way: usize = self.links.iter().map(|link| link.in_flight).sum();
        at_end();
        let until = Instant::now() + PATIENCE;
        while self.links.iter().any(|link| link.in_flight > 0) && Instant::now() < until {
            self.turn(Duration::from_millis(100))?;
        }
        self.tally.late = self.tally.replies - replies;
        self.tally.turned_away = self.tally.refused - refused;
        (self.tally.replies, self.tally.refused) = (replies, refused);
        self.tally.lost = on_their_way as u64 - self.tally.late - self.tally.turned_away;
        Ok(())
    }
}
