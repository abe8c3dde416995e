//! Connections that have done one request each and then rest.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::link::{Address, Link, Open};
use super::protocol::{Kind, Protocol};
use crate::trouble::{Attempt, Result, failed};

/// Connections that are opened before their answers are waited for; below every peer's backlog.
const AT_A_TIME: usize = 100;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens `connections` and has one request answered on each. They are closed when dropped.
pub(crate) fn hold(protocol: &dyn Protocol, address: &Address, connections: usize) -> Result<Vec<Link>> {
    let mut held = Vec::with_capacity(connections);
    let mut buffer = vec![0; 64 << 10];
    while held.len() < connections {
        let n_more = AT_A_TIME.min(connections - held.len());
        let start = held.len();
        for _ in 0..n_more {
            let mut link = Link::open(address, protocol)?;
            link.pending = 1;
            link.flush(protocol)?;
            held.push(link);
        }
        for link in &mut held[start..] {
            wait(link, protocol, &mut buffer)?;
        }
    }
    Ok(held)
}

fn wait(link: &mut Link, protocol: &dyn Protocol, buffer: &mut [u8]) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut refused = false;
    while link.in_flight > 0 {
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        poll(&mut [PollFd::new(&link.socket, PollFlags::IN)], Some(&second)).trying("wait for a socket")?;
        let open = link.receive(protocol, buffer, &mut |kind| refused |= kind == Kind::Refused)?;
        if open == Open::No || refused || Instant::now() > until {
            return failed("the peer refuses one of many connections, closes it, or does not answer on it");
        }
    }
    Ok(())
}
