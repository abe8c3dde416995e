//! Owns: one listening socket, or its end of one that the service manager keeps. Receives: connections, the phases of
//! the daemon. Sends: connections into tasks of their own. Ends when: the drain has begun, and the backlog of an own
//! socket is accepted, or the socket fails. Never: reads or writes a byte itself, or grows a thread.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::IoWorld;
use super::census::DoorName;
use super::connection::Connection;
use super::hall::{FrontDoor, Hall};
use super::refusal::{native_words, no_place, refuse};
use super::stream::{Peer, Stream};
use crate::lifecycle::Phase;
use crate::settings::{ListenAddress, ListenSource, UnixAddress};
use crate::telemetry::add;

/// Connections that the kernel keeps for us while we are busy; it lowers this to `net.core.somaxconn` itself.
const BACKLOG: i32 = 4096;

/// Pause after the system had no descriptor or memory for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How often an ongoing shortage is logged.
const EXHAUSTED_LOG_EVERY: Duration = Duration::from_secs(1);

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}; {hint}")]
pub struct BindError {
    /// The address, as the client writes it.
    pub address: String,
    /// What the system said.
    #[source]
    pub source: io::Error,
    /// What to do about it.
    pub hint: &'static str,
}

/// A listening socket that nobody accepts from yet.
pub(crate) struct BoundListener {
    pub(crate) address: ListenAddress,
    socket: ListeningSocket,
}

enum ListeningSocket {
    Tcp(std::net::TcpListener, Backlog),
    /// The file of an own socket goes with it; an activated one's belongs to the service manager.
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

/// Whose connections the ones are that nobody has accepted when the drain begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backlog {
    /// Ours: they would be reset when the socket closes.
    Own,
    /// Of the next process that is given the socket: they wait for it.
    Kept,
}

/// The file of a Unix socket; removed when dropped, if it is still ours.
struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// A socket that cannot be accepted from any more.
#[derive(Debug, Error)]
#[error("accepting on {address} failed: {source}")]
pub(crate) struct ListenerError {
    pub(crate) address: String,
    #[source]
    source: io::Error,
}

impl BoundListener {
    /// Binds and listens.
    ///
    /// # Errors
    ///
    /// [`BindError`], which names the address.
    pub(crate) fn bind(source: &ListenSource) -> Result<Self, BindError> {
        let (address, socket) = match source {
            ListenSource::Address(address) => (address.clone(), bind(address)),
            ListenSource::ActivatedTcp { socket, address } => (
                ListenAddress::Tcp(*address),
                take_tcp(socket).map(|s| ListeningSocket::Tcp(s, Backlog::Kept)),
            ),
            ListenSource::ActivatedUnix { socket, address } => {
                let socket = take_unix(socket).map(|socket| ListeningSocket::Unix(socket, None));
                (ListenAddress::Unix(address.clone()), socket)
            }
        };
        match socket {
            Ok(socket) => Ok(Self { address, socket }),
            Err(source) => Err(BindError { address: address.to_string(), hint: hint(&source), source }),
        }
    }

    /// The address that was bound, with the port that the system chose where 0 was asked for.
    pub(crate) fn local_address(&self) -> ListenAddress {
        match &self.socket {
            ListeningSocket::Tcp(socket, _) => {
                socket.local_addr().map_or_else(|_| self.address.clone(), ListenAddress::Tcp)
            }
            ListeningSocket::Unix(..) => self.address.clone(),
        }
    }
}

impl ListeningSocket {
    fn backlog(&self) -> Backlog {
        match self {
            Self::Tcp(_, backlog) => *backlog,
            Self::Unix(_, Some(_)) => Backlog::Own,
            Self::Unix(_, None) => Backlog::Kept,
        }
    }
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it or choose another address",
        io::ErrorKind::AddrNotAvailable => "this machine has no such address",
        io::ErrorKind::PermissionDenied => {
            "the daemon's user may not; choose a port above 1023 or another directory"
        }
        io::ErrorKind::NotFound => "create the directory first",
        _ => "see the [listen] section of the configuration",
    }
}

fn bind(address: &ListenAddress) -> io::Result<ListeningSocket> {
    match address {
        ListenAddress::Tcp(tcp) => bind_tcp(*tcp).map(|socket| ListeningSocket::Tcp(socket, Backlog::Own)),
        ListenAddress::Unix(unix) => {
            bind_unix(unix).map(|(socket, file)| ListeningSocket::Unix(socket, Some(file)))
        }
    }
}

/// Another descriptor of a socket that was handed over, so that a listener that failed can be started again.
fn take_tcp(socket: &std::net::TcpListener) -> io::Result<std::net::TcpListener> {
    let socket = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn take_unix(socket: &std::os::unix::net::UnixListener) -> io::Result<std::os::unix::net::UnixListener> {
    let socket = socket.try_clone()?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a daemon that has just ended do not keep its successor from listening.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds in a private directory, sets rights and owner there, and moves the socket to its place, so that nobody ever
/// sees it with other rights. A stale file at the place is replaced by the move; a live one is left alone.
fn bind_unix(address: &UnixAddress) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let parent = address.path.parent().unwrap_or(Path::new("/"));
    // Two daemons that start together must not both find the place free.
    let _until_it_is_ours = lock_directory(parent)?;
    refuse_live(&address.path)?;
    let private = parent.join(format!(".windlass-{}", std::process::id()));
    std::fs::DirBuilder::new().create_private(&private)?;
    let bound = bind_unix_in(&private, address);
    // The socket has left it, or was never made.
    drop(std::fs::remove_dir_all(&private));
    bound
}

fn bind_unix_in(
    private: &Path,
    address: &UnixAddress,
) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let path = private.join("s");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(&path)?)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(address.mode))?;
    if address.uid.is_some() || address.gid.is_some() {
        std::os::unix::fs::chown(&path, address.uid, address.gid)?;
    }
    socket.listen(BACKLOG)?;
    let metadata = std::fs::symlink_metadata(&path)?;
    std::fs::rename(&path, &address.path)?;
    let file = SocketFile { path: address.path.clone(), inode: (metadata.dev(), metadata.ino()) };
    Ok((socket.into(), file))
}

/// How often a lock that another process holds is tried, and how long apart: a second in all.
const LOCK_TRIES: usize = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Keeps other daemons from placing a socket in the same directory for as long as the file is open.
fn lock_directory(path: &Path) -> io::Result<std::fs::File> {
    use rustix::fs::{FlockOperation, flock};
    let directory = std::fs::File::open(path)?;
    for _ in 0..LOCK_TRIES {
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::park_timeout(LOCK_PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "another process has locked the directory"))
}

trait PrivateDirectory {
    fn create_private(&mut self, path: &Path) -> io::Result<()>;
}

impl PrivateDirectory for std::fs::DirBuilder {
    fn create_private(&mut self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        match self.mode(0o700).create(path) {
            // Left behind by a process that had our id and died here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::remove_dir_all(path)?;
                self.create(path)
            }
            created => created,
        }
    }
}

/// Whether something at `path` must not be replaced: a socket that answers, or a file that is none.
fn refuse_live(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket stands there"));
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A full backlog of a live daemon must not make us wait.
    socket.set_nonblocking(true)?;
    match socket.connect(&SockAddr::unix(path)?) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.inode);
        if ours {
            drop(std::fs::remove_file(&self.path));
        }
    }
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
