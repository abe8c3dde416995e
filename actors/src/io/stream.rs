//! A TCP or Unix stream, whichever was accepted.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::census::Door;
use crate::dispatch::ClientKey;
use crate::settings::FairBy;

/// One end of a connection.
pub(crate) enum Stream {
    Tcp(TcpStream),
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
    /// Where it came in.
    pub(crate) fn door(&self) -> Door {
        match self {
            Self::Tcp(_) => Door::Tcp,
            Self::Unix(_) => Door::Unix,
        }
    }

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

    /// Reads straight into the memory behind `buffer`, at most as much as it has room for. 0 means the end.
    pub(crate) fn poll_read_buf(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut impl BufMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            let read = match self {
                Self::Tcp(stream) => {
                    ready!(stream.poll_read_ready(context))?;
                    stream.try_read_buf(buffer)
                }
                Self::Unix(stream) => {
                    ready!(stream.poll_read_ready(context))?;
                    stream.try_read_buf(buffer)
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read),
            }
        }
    }

    /// Reads what the kernel holds ready. 0 means the end.
    pub(crate) fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match self {
            Self::Tcp(stream) => rustix::io::read(stream, buffer),
            Self::Unix(stream) => rustix::io::read(stream, buffer),
        };
        Ok(read?)
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
