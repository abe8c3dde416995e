//! A TCP or Unix stream, whichever was accepted.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::dispatch::ClientKey;
use crate::settings::FairBy;

/// One end of a connection.
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Unix { uid: Option<u32> },
}

impl Peer {
    /// Whom this connection's CPU time is charged to.
    pub(crate) fn client_key(self, number: u64, fair_by: FairBy) -> ClientKey {
        match (fair_by, self) {
            (FairBy::Address | FairBy::Uid, Self::Tcp(address)) => ClientKey::Address(address.ip()),
            (FairBy::Uid, Self::Unix { uid: Some(uid) }) => ClientKey::Uid(uid),
            _ => ClientKey::Connection(number),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix { uid: Some(uid) } => write!(formatter, "unix:uid={uid}"),
            Self::Unix { uid: None } => formatter.write_str("unix"),
        }
    }
}

impl Stream {
    /// Reads into `buffer`; an unchanged buffer means the end.
    pub(crate) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    /// Ready when there may be something to read.
    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    /// Reads straight into the memory behind `buffer`, at most as much as it has room for. 0 means the end. A read that
    /// leaves some of the room has taken all there was, and the next one does not ask the socket in vain.
    pub(crate) fn poll_read_buf(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        pin!(self.read_buf(buffer)).poll(context)
    }

    /// Reads what the kernel holds ready, whether or not the runtime has heard of it. 0 means the end.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] when it holds nothing, and what the system says.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Tcp(stream) => rustix::io::read(stream, buffer),
            Self::Unix(stream) => rustix::io::read(stream, buffer),
        };
        Ok(read?)
    }

    /// The address that the peer has connected to; `None` for a Unix socket.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    pub(crate) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match (self, chunks) {
            (Self::Tcp(stream), [chunk]) => Pin::new(stream).poll_write(context, chunk),
            (Self::Unix(stream), [chunk]) => Pin::new(stream).poll_write(context, chunk),
            (Self::Tcp(stream), chunks) => Pin::new(stream).poll_write_vectored(context, chunks),
            (Self::Unix(stream), chunks) => Pin::new(stream).poll_write_vectored(context, chunks),
        }
    }

    /// Ends the write side; the peer reads everything before it and then the end.
    pub(crate) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Self::poll_read(&mut self, context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunk: &[u8],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, context, &[IoSlice::new(chunk)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        chunks: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Self::poll_write(&mut self, context, chunks)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// A socket keeps nothing back.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_shutdown(&mut self, context)
    }
}
