//! A blocking socket whose every wait has an end.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::client::address::Address;
use crate::client::decoder::Decoder;
use crate::client::outgoing::{Outgoing, SLICES_MAX};

/// Most bytes read at once; the room for them is cleared first.
const READ_BYTES: usize = 256 * 1024;

pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Connects to the first address of the host that accepts; `timeout` bounds each attempt.
    pub(super) fn connect(address: &Address, timeout: Duration) -> io::Result<Self> {
        match address {
            Address::Tcp { host, port } => {
                let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
                for socket_address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&socket_address, timeout) {
                        Ok(stream) => {
                            stream.set_nodelay(true)?;
                            return Ok(Self::Tcp(stream));
                        }
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => UnixStream::connect(path).map(Self::Unix),
        }
    }

    /// Sends everything, or fails with `TimedOut` at `give_up` with a frame possibly cut.
    pub(super) fn send(&mut self, outgoing: &mut Outgoing, give_up: Instant) -> io::Result<()> {
        while !outgoing.is_empty() {
            let left = time_left(give_up)?;
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let used = outgoing.slices(&mut slices);
            let written = match self {
                Self::Tcp(stream) => {
                    stream.set_write_timeout(Some(left))?;
                    stream.write_vectored(&slices[..used])
                }
                Self::Unix(stream) => {
                    stream.set_write_timeout(Some(left))?;
                    stream.write_vectored(&slices[..used])
                }
            };
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(sent) => outgoing.advance(sent),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads some bytes; 0 at the end of the stream, `TimedOut` or `WouldBlock` at `give_up`.
    pub(super) fn receive(&mut self, decoder: &mut Decoder, give_up: Instant) -> io::Result<usize> {
        loop {
            let left = Some(time_left(give_up)?);
            match self {
                Self::Tcp(stream) => stream.set_read_timeout(left)?,
                Self::Unix(stream) => stream.set_read_timeout(left)?,
            }
            match self.read_some(decoder) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reads what is there without waiting; `WouldBlock` when nothing is.
    pub(super) fn receive_now(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        self.set_nonblocking(true)?;
        let result = self.read_some(decoder);
        self.set_nonblocking(false)?;
        result
    }

    fn read_some(&mut self, decoder: &mut Decoder) -> io::Result<usize> {
        let buffer = decoder.room();
        let (start, room) = (buffer.len(), buffer.capacity() - buffer.len());
        buffer.resize(start + room.min(READ_BYTES), 0);
        let result = match self {
            Self::Tcp(stream) => stream.read(&mut buffer[start..]),
            Self::Unix(stream) => stream.read(&mut buffer[start..]),
        };
        buffer.truncate(start + result.as_ref().copied().unwrap_or(0));
        result
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Self::Unix(stream) => stream.set_nonblocking(nonblocking),
        }
    }
}

/// A socket time-out must not be zero.
fn time_left(give_up: Instant) -> io::Result<Duration> {
    let left = give_up.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

pub(super) fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
