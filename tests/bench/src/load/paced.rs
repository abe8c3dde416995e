//! The open loop: requests at fixed times, whatever becomes of those before them. Each one's time counts from when
//! it was due, so that a peer that stalls cannot hide the requests that it kept from being sent.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::link::{Address, Link, Open};
use super::protocol::{Kind, Protocol};
use crate::trouble::{Attempt, Result, failed};

/// What the timer is called among the sockets.
const TIMER: u64 = u64::MAX;

/// How long the last answers are waited for.
const LINGER: Duration = Duration::from_secs(5);

/// How often, on how many connections that take turns, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) connections: usize,
    pub(crate) per_second: u32,
    pub(crate) duration: Duration,
}

/// Times from when a request was due until its answer was read, nanoseconds.
pub(crate) fn paced(protocol: &dyn Protocol, address: &Address, pace: Pace) -> Result<Vec<u64>> {
    let poll = epoll::create(CreateFlags::CLOEXEC).trying("make an epoll")?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
        .trying("make a timer")?;
    epoll::add(&poll, &timer, EventData::new_u64(TIMER), EventFlags::IN).trying("watch a timer")?;
    let mut links = Vec::new();
    for index in 0..pace.connections as u64 {
        let mut link = Link::open(address, protocol)?;
        epoll::add(&poll, &link.socket, EventData::new_u64(index), EventFlags::IN)
            .trying("watch a socket")?;
        link.flush(protocol)?;
        links.push((link, VecDeque::<Instant>::new()));
    }

    let interval = Duration::from_secs(1) / pace.per_second;
    let began = Instant::now() + interval;
    let end = began + pace.duration;
    let mut n_sent: u32 = 0;
    let mut times = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let mut events: Vec<Event> = Vec::with_capacity(64);
    loop {
        let now = Instant::now();
        let mut due = began + interval * n_sent;
        while due <= now && due < end {
            let (link, sent) = &mut links[n_sent as usize % pace.connections];
            link.pending += 1;
            sent.push_back(due);
            if link.flush(protocol)? == Open::No {
                return failed("the peer closed a connection that was asked something");
            }
            n_sent += 1;
            due = began + interval * n_sent;
        }
        let is_all_sent = due >= end;
        if is_all_sent && times.len() == n_sent as usize {
            return Ok(times);
        }
        if now > end + LINGER {
            return failed(format!(
                "{} of {n_sent} paced requests have no answer",
                n_sent as usize - times.len()
            ));
        }
        if !is_all_sent {
            set(&timer, due.saturating_duration_since(Instant::now()))?;
        }
        events.clear();
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&second))
            .trying("wait for sockets")?;
        for event in &events {
            let index = event.data.u64();
            if index == TIMER {
                // Setting it anew takes the expiry back.
                continue;
            }
            let (link, sent) = &mut links[usize::try_from(index).expect("it was an index before")];
            let mut refused = 0;
            let mut on = |kind| match kind {
                Kind::Reply => {
                    let time = sent.pop_front().map_or(Duration::ZERO, |due| due.elapsed());
                    times.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
                }
                Kind::Refused => refused += 1,
                Kind::Ready | Kind::Other => {}
            };
            if link.receive(protocol, &mut buffer, &mut on)? == Open::No || refused > 0 {
                return failed("the peer refused a paced request or closed its connection");
            }
        }
    }
}

fn set(timer: &rustix::fd::OwnedFd, after: Duration) -> Result<()> {
    // Zero would stop it.
    let after = after.max(Duration::from_nanos(1));
    let it_value = Timespec {
        tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: after.subsec_nanos().into(),
    };
    let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval, it_value })
        .trying("set a timer")
        .map(drop)
}
