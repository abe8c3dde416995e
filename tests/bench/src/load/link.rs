//! One connection of the load generator: what is to be sent, what is on its way, and the answer that is half read.

use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;

use super::protocol::{Kind, Protocol};
use crate::trouble::{Attempt, Result, failed};

/// Bodies up to this length are copied behind their heads, so that many requests leave in one write.
const BODY_COPIED_BYTES_MAX: usize = 4 << 10;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a peer listens.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Whether more will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    Yes,
    No,
}

pub(crate) struct Link {
    pub(crate) socket: OwnedFd,
    /// Requests to be written.
    pub(crate) pending: usize,
    /// Requests written, in part or in whole, that have no answer.
    pub(crate) in_flight: usize,
    next_id: u64,
    out: Vec<u8>,
    out_sent: usize,
    /// Of the last request's body, bytes that are not copied to `out`.
    body_sent: usize,
    /// The start of an answer of unknown length.
    partial: Vec<u8>,
    /// The answer whose rest is being skipped, and how much that is.
    skipped: Option<(Kind, usize)>,
}

impl Link {
    pub(crate) fn open(address: &Address, protocol: &dyn Protocol) -> Result<Self> {
        let socket: OwnedFd = match address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)
                    .trying(format!("connect to {address}"))?;
                stream.set_nodelay(true).trying("set TCP_NODELAY")?;
                stream.into()
            }
            Address::Unix(path) => {
                UnixStream::connect(path).trying(format!("connect to {}", path.display()))?.into()
            }
        };
        rustix::io::ioctl_fionbio(&socket, true).trying("make a socket non-blocking")?;
        let mut link = Self {
            socket,
            pending: 0,
            in_flight: 0,
            next_id: 1,
            out: Vec::new(),
            out_sent: 0,
            body_sent: protocol.body().len(),
            partial: Vec::new(),
            skipped: None,
        };
        link.out.extend_from_slice(protocol.greeting());
        Ok(link)
    }

    /// Writes what is pending, as far as the socket takes it.
    pub(crate) fn flush(&mut self, protocol: &dyn Protocol) -> Result<Open> {
        let body = protocol.body();
        loop {
            if self.body_sent == body.len() {
                self.encode(protocol);
            }
            let slices = [IoSlice::new(&self.out[self.out_sent..]), IoSlice::new(&body[self.body_sent..])];
            let left = slices[0].len() + slices[1].len();
            if left == 0 {
                self.out.clear();
                self.out_sent = 0;
                return Ok(Open::Yes);
            }
            let sent = match rustix::io::writev(&self.socket, &slices) {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => return Ok(Open::Yes),
                Err(Errno::PIPE | Errno::CONNRESET) => return Ok(Open::No),
                Err(error) => return failed(format!("cannot write to the peer: {error}")),
            };
            let of_out = sent.min(slices[0].len());
            self.out_sent += of_out;
            self.body_sent += sent - of_out;
        }
    }

    /// Appends the requests that can leave together.
    fn encode(&mut self, protocol: &dyn Protocol) {
        let body = protocol.body();
        let is_copied = body.len() <= BODY_COPIED_BYTES_MAX;
        let n_requests = if is_copied { self.pending } else { self.pending.min(1) };
        for _ in 0..n_requests {
            protocol.head(self.next_id, &mut self.out);
            self.next_id += 1;
            if is_copied {
                self.out.extend_from_slice(body);
            }
        }
        if n_requests > 0 && !is_copied {
            self.body_sent = 0;
        }
        self.pending -= n_requests;
        self.in_flight += n_requests;
    }

    /// Reads what is there and calls `on` for every answer that is complete.
    pub(crate) fn receive(
        &mut self,
        protocol: &dyn Protocol,
        buffer: &mut [u8],
        on: &mut dyn FnMut(Kind),
    ) -> Result<Open> {
        loop {
            let read = match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) | Err(Errno::CONNRESET) => return Ok(Open::No),
                Ok(read) => read,
                Err(Errno::AGAIN) => return Ok(Open::Yes),
                Err(error) => return failed(format!("cannot read from the peer: {error}")),
            };
            self.digest(protocol, &buffer[..read], on)?;
            if read < buffer.len() {
                return Ok(Open::Yes);
            }
        }
    }

    fn digest(&mut self, protocol: &dyn Protocol, mut data: &[u8], on: &mut dyn FnMut(Kind)) -> Result<()> {
        if let Some((kind, left)) = self.skipped.take() {
            let Some(rest) = data.get(left..) else {
                self.skipped = Some((kind, left - data.len()));
                return Ok(());
            };
            self.count(kind, on);
            data = rest;
        }
        if self.partial.is_empty() {
            return self.digest_whole(protocol, data, on);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(data);
        self.digest_whole(protocol, &joined, on)
    }

    fn digest_whole(
        &mut self,
        protocol: &dyn Protocol,
        mut data: &[u8],
        on: &mut dyn FnMut(Kind),
    ) -> Result<()> {
        while !data.is_empty() {
            let answer = protocol.answer(data).trying("understand the peer")?;
            let Some(answer) = answer else {
                self.partial.extend_from_slice(data);
                return Ok(());
            };
            let Some(rest) = data.get(answer.bytes..) else {
                self.skipped = Some((answer.kind, answer.bytes - data.len()));
                return Ok(());
            };
            self.count(answer.kind, on);
            data = rest;
        }
        Ok(())
    }

    fn count(&mut self, kind: Kind, on: &mut dyn FnMut(Kind)) {
        if matches!(kind, Kind::Reply | Kind::Refused) {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        on(kind);
    }
}
