//! What the actors are told. Plain values without defaults: whoever starts them decides everything.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::operation::Catalogue;

/// One immutable snapshot of all that a reload may change. A request keeps the one it was admitted under.
#[derive(Clone)]
pub struct Settings {
    /// The enabled operations.
    pub catalogue: Catalogue,
    /// What waits.
    pub queue: QueueSettings,
    /// What one connection, or all together, may ask.
    pub limits: LimitSettings,
    /// How long anybody is waited for.
    pub timeouts: TimeoutSettings,
    /// How the end goes.
    pub drain: DrainSettings,
}

/// Bounds of what waits for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    /// Requests that may wait, besides those that run.
    pub capacity: NonZeroUsize,
    /// Inputs and outputs held, bytes.
    pub memory_bytes_max: u64,
    /// Longest wait for a worker; a request that waited longer is answered `Overloaded`.
    pub wait_max: Duration,
    /// Batch gets one part of CPU time for this many parts in all while both classes wait; at least 2.
    pub batch_share: NonZeroU32,
    /// Between whom CPU time is shared.
    pub fair_by: FairBy,
}

/// What counts as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FairBy {
    /// Every connection by itself.
    Connection,
    /// All connections from one IP address; Unix sockets by connection.
    Address,
    /// All connections of one user of a Unix socket; TCP by address.
    Uid,
}

/// Bounds of connections and requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSettings {
    /// Connections open at the same time.
    pub connections_max: usize,
    /// Requests unanswered on one connection.
    pub in_flight_per_connection: NonZeroU32,
    /// Body of a request, bytes.
    pub body_bytes_max: u64,
    /// Answers that one connection has not read yet, bytes; above it, no more is read from it.
    pub unwritten_bytes_max: u64,
}

impl LimitSettings {
    /// Largest answer, bytes: a body, and what compressing one that does not compress adds to it (at most one part in
    /// 255 by the formats there are, and their frames).
    pub fn answer_bytes_max(&self) -> u64 {
        self.body_bytes_max.saturating_add(self.body_bytes_max / 128).saturating_add(64 * 1024)
    }
}

/// Bounds of waiting for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutSettings {
    /// From accepting a connection to its complete Hello.
    pub handshake: Duration,
    /// Without a request in flight.
    pub idle: Duration,
    /// Without progress within a frame.
    pub read: Duration,
    /// Without progress in taking an answer.
    pub write: Duration,
    /// Deadline of a request that names none.
    pub deadline_default: Duration,
    /// Longest deadline; a longer one is shortened to it.
    pub deadline_max: Duration,
}

/// The phases of a drain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// Not ready any more, but serving as before.
    pub quiet: Duration,
    /// For requests in flight to finish.
    pub timeout: Duration,
    /// For what was then stopped to be answered.
    pub cancel_grace: Duration,
}

/// The CPU world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Worker threads.
    pub threads: NonZeroUsize,
    /// Stack of each, bytes.
    pub thread_stack_bytes: usize,
    /// Niceness of each, 0 to 19.
    pub nice: u8,
    /// Working memory of all that runs, kept work areas included, bytes.
    pub work_bytes_max: u64,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP socket.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(UnixAddress),
}

/// Where a listener's socket comes from. Every door takes a list of them.
#[derive(Debug)]
pub enum ListenSource {
    /// It is bound here, and closed at the end with its backlog accepted and its file removed.
    Address(ListenAddress),
    /// The service manager bound it and keeps it: what nobody has accepted when the drain begins waits for the next
    /// process.
    ActivatedTcp {
        /// This process's end.
        socket: std::net::TcpListener,
        /// Where it is bound.
        address: SocketAddr,
    },
    /// The same for a Unix socket, whose file is never touched.
    ActivatedUnix {
        /// This process's end.
        socket: std::os::unix::net::UnixListener,
        /// Where its file stands; rights and owners are the service manager's business.
        address: UnixAddress,
    },
}

/// A Unix socket's place and rights, both in force from the first moment it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixAddress {
    /// Where the socket file stands.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner; `None` leaves the process's own.
    pub uid: Option<u32>,
    /// Its group; `None` leaves the process's own.
    pub gid: Option<u32>,
}

impl std::fmt::Display for ListenAddress {
    /// As the client takes it: `tcp://HOST:PORT` or `unix:///PATH`.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "tcp://{address}"),
            Self::Unix(address) => write!(formatter, "unix://{}", address.path.display()),
        }
    }
}
