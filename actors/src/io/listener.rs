//! Owns: one listening socket, or its end of one that the service manager keeps. Receives: connections, the phases of
//! the daemon. Sends: connections into tasks of their own. Ends when: the drain has begun, and the backlog of an own
//! socket is accepted, or the socket fails. Never: reads or writes a byte itself, or grows a thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::IoWorld;
use super::bind::{BACKLOG, Backlog, BoundListener, ListeningSocket, SocketFile};
use super::census::DoorName;
use super::connection::Connection;
use super::hall::{FrontDoor, Hall};
use super::refusal::{native_words, no_place, refuse};
use super::stream::{Peer, Stream};
use crate::lifecycle::Phase;
use crate::settings::ListenAddress;
use crate::telemetry::add;

/// Pause after the system had no descriptor or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How often an ongoing shortage is logged.
const EXHAUSTED_LOG_EVERY: Duration = Duration::from_secs(1);

/// A socket that cannot be accepted from any more.
#[derive(Debug, Error)]
#[error("accepting on {address} failed: {source}")]
pub(crate) struct ListenerError {
    pub(crate) address: String,
    #[source]
    source: io::Error,
}

/// What is spoken behind a listening socket.
#[derive(Clone)]
pub(crate) enum Door {
    /// The native protocol.
    Native,
    /// Another one, which the program brings.
    Other(Arc<dyn FrontDoor>),
}

impl Door {
    /// What it is counted as.
    fn name_of(&self, stream: &Stream) -> DoorName {
        match (self, stream) {
            (Self::Other(_), _) => DoorName::Http,
            (Self::Native, Stream::Tcp(_)) => DoorName::Tcp,
            (Self::Native, Stream::Unix(_)) => DoorName::Unix,
        }
    }

    /// An address of this door, as people write it.
    pub(crate) fn name(&self, address: &ListenAddress) -> String {
        match (self, address) {
            (Self::Other(door), ListenAddress::Tcp(tcp)) => format!("{}://{tcp}", door.scheme()),
            _ => address.to_string(),
        }
    }
}

/// The actor of one listening socket.
pub(crate) struct Listener {
    world: Arc<IoWorld>,
    door: Door,
    address: ListenAddress,
    socket: AcceptingSocket,
    backlog: Backlog,
    exhausted: Exhausted,
}

enum AcceptingSocket {
    Tcp(TcpListener),
    /// The file goes with the socket.
    Unix {
        socket: UnixListener,
        _file: Option<SocketFile>,
    },
}

/// A shortage of descriptors or memory, logged once a second.
#[derive(Default)]
struct Exhausted {
    logged_at: Option<Instant>,
    unlogged: u64,
}

impl Listener {
    /// Registers the socket with the runtime that this is called on.
    pub(crate) fn new(world: Arc<IoWorld>, door: Door, bound: BoundListener) -> Result<Self, ListenerError> {
        let name = bound.address.to_string();
        let backlog = bound.socket.backlog();
        let socket = match bound.socket {
            ListeningSocket::Tcp(socket, _) => TcpListener::from_std(socket).map(AcceptingSocket::Tcp),
            ListeningSocket::Unix(socket, file) => {
                UnixListener::from_std(socket).map(|socket| AcceptingSocket::Unix { socket, _file: file })
            }
        };
        let socket = socket.map_err(|source| ListenerError { address: name, source })?;
        let exhausted = Exhausted::default();
        Ok(Self { world, door, address: bound.address, socket, backlog, exhausted })
    }

    /// Accepts until the drain begins, then what the backlog of an own socket still holds.
    ///
    /// # Errors
    ///
    /// When the socket itself has failed; what single connections do wrong is logged and counted.
    pub(crate) async fn run(mut self) -> Result<(), ListenerError> {
        let mut phase = self.world.phase.clone();
        while *phase.borrow_and_update() < Phase::Draining {
            let accepted = tokio::select! {
                biased;
                changed = phase.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => break,
                },
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.welcome(stream, peer).await,
                Err(error) => self.accept_failed(error).await?,
            }
        }
        if self.backlog == Backlog::Own {
            self.accept_backlog().await;
        }
        tracing::debug!(address = %self.address, "stopped listening");
        Ok(())
    }

    /// Connections whose clients believe themselves connected are not turned away with a reset. Asks the socket itself:
    /// what the runtime knows of it may be older than the drain, and its budget for one turn smaller than the backlog.
    async fn accept_backlog(&self) {
        for _ in 0..BACKLOG {
            match self.socket.accept_now() {
                Ok((stream, peer)) => self.welcome(stream, peer).await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_exhausted(&error) => return,
                Err(error) => tracing::debug!(address = %self.address, %error, "a connection was gone"),
            }
        }
    }

    /// Waits only where many are refused at the same time, and never longer than one of them may take to go.
    async fn welcome(&self, stream: Stream, peer: Peer) {
        let world = &self.world;
        let limit = world.settings.load().limits.connections_max;
        let Some(resident) = world.census.enter(self.door.name_of(&stream), limit) else {
            tracing::debug!(%peer, limit, "connection refused: limits.connections reached");
            let failure = no_place(limit);
            let words = match &self.door {
                Door::Native => native_words(&failure, world.load()),
                Door::Other(door) => door.no_place(&failure),
            };
            let place = Arc::clone(&world.refusals).acquire_owned().await;
            let place = place.expect("nobody closes the places of refusals");
            tokio::spawn(refuse(stream, place, words));
            return;
        };
        if let Stream::Tcp(stream) = &stream
            && let Err(error) = stream.set_nodelay(true)
        {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let number = world.connection_numbers.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(connection = number, %peer, address = %self.address, "connection accepted");
        let world = Arc::clone(world);
        match &self.door {
            Door::Native => {
                tokio::spawn(Connection::new(world, stream, peer, number, resident).run());
            }
            Door::Other(door) => {
                tokio::spawn(door.serve(stream, Hall::new(world, peer, number, resident)));
            }
        }
    }

    async fn accept_failed(&mut self, error: io::Error) -> Result<(), ListenerError> {
        add(&self.world.metrics.accept_errors, 1);
        if is_exhausted(&error) {
            self.exhausted.note(&self.address, &error);
            tokio::time::sleep(EXHAUSTED_PAUSE).await;
            Ok(())
        } else if is_peer_fault(&error) {
            tracing::debug!(address = %self.address, %error, "a connection was gone before it was accepted");
            Ok(())
        } else {
            Err(ListenerError { address: self.address.to_string(), source: error })
        }
    }
}

impl AcceptingSocket {
    /// Cancel safe: no connection is lost when this is dropped.
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix { socket, .. } => Ok(unix_peer(socket.accept().await?.0)),
        }
    }

    /// What the kernel holds ready, if anything.
    fn accept_now(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = SockRef::from(socket).accept()?;
                stream.set_nonblocking(true)?;
                let address = address.as_socket().ok_or(io::ErrorKind::InvalidData)?;
                Ok((Stream::Tcp(TcpStream::from_std(stream.into())?), Peer::Tcp(address)))
            }
            Self::Unix { socket, .. } => {
                let (stream, _) = SockRef::from(socket).accept()?;
                stream.set_nonblocking(true)?;
                Ok(unix_peer(UnixStream::from_std(stream.into())?))
            }
        }
    }
}

fn unix_peer(stream: UnixStream) -> (Stream, Peer) {
    let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
    (Stream::Unix(stream), Peer::Unix { uid })
}

impl Exhausted {
    fn note(&mut self, address: &ListenAddress, error: &io::Error) {
        self.unlogged += 1;
        let now = Instant::now();
        if self.logged_at.is_none_or(|at| now >= at + EXHAUSTED_LOG_EVERY) {
            tracing::error!(
                %address, %error, times = self.unlogged,
                "no connection can be accepted; raise LimitNOFILE or lower limits.connections"
            );
            self.logged_at = Some(now);
            self.unlogged = 0;
        }
    }
}

/// Whether the system is out of something that comes back.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether it was the connection that failed, not the socket (accept(2), "Error handling").
fn is_peer_fault(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let of_the_network = [
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::NONET,
        Errno::HOSTUNREACH,
        Errno::OPNOTSUPP,
        Errno::NETUNREACH,
        Errno::PERM,
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::TIMEDOUT,
    ];
    of_the_network.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
