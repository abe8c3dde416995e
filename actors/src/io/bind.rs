//! Listening sockets come to be: bound here, or taken over from the service manager.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

use crate::settings::{ListenAddress, ListenSource, UnixAddress};

/// Connections that the kernel keeps for us while we are busy; it lowers this to `net.core.somaxconn` itself.
pub(super) const BACKLOG: i32 = 4096;

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
    pub(super) socket: ListeningSocket,
}

pub(super) enum ListeningSocket {
    Tcp(std::net::TcpListener, Backlog),
    /// The file of an own socket goes with it; an activated one's belongs to the service manager.
    Unix(std::os::unix::net::UnixListener, Option<SocketFile>),
}

/// Whose connections the ones are that nobody has accepted when the drain begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Backlog {
    /// Ours: they would be reset when the socket closes.
    Own,
    /// Of the next process that is given the socket: they wait for it.
    Kept,
}

/// The file of a Unix socket; removed when dropped, if it is still ours.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
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
    pub(super) fn backlog(&self) -> Backlog {
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
