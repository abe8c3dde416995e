//! The operator's window: health, metrics, status and the page. Owns: a listening socket, a thread and a runtime of
//! its own. Receives: short HTTP requests. Sends: what an [`Observer`] sees. Ends when: everything else has ended.
//! Never: waits for a worker or an I/O thread, takes a place from clients, or reads more than a kibibyte of a body.

mod answers;
mod export;
mod process;
mod server;

use std::io;
use std::net::TcpListener;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use tokio::sync::Notify;
use windlass_actors::settings::{ListenAddress, ListenSource};
use windlass_actors::{BindError, Observer};

use crate::guard::Hosts;
use crate::log::LogHandle;

/// What the answers are made from.
pub(crate) struct Window {
    /// There once the daemon has started.
    observer: OnceLock<Observer>,
    log: LogHandle,
    /// Under which names the door is reached.
    hosts: Hosts,
    /// Connections that were accepted at this door.
    accepted: AtomicU64,
    /// Told once, when the thread has to end.
    end: Notify,
}

/// The running door.
pub(crate) struct Admin {
    window: Arc<Window>,
    thread: JoinHandle<()>,
}

/// Why there is no door.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system gives no thread, or no runtime for it.
    #[error("cannot start the admin thread: {0}")]
    Thread(#[source] io::Error),
}

impl Admin {
    /// Binds and answers from now on; until [`Admin::show`], that the daemon is starting.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or the thread.
    pub(crate) fn start(source: ListenSource, hosts: Hosts, log: LogHandle) -> Result<Self, AdminError> {
        let listener = listener(source)?;
        let local = listener.local_addr().map_err(AdminError::Thread)?;
        let window = Arc::new(Window {
            observer: OnceLock::new(),
            log,
            hosts,
            accepted: AtomicU64::new(0),
            end: Notify::new(),
        });
        let thread = server::start(listener, Arc::clone(&window)).map_err(AdminError::Thread)?;
        tracing::info!(address = format!("http://{local}"), door = "admin", "listening");
        Ok(Self { window, thread })
    }

    /// Everything is bound and started: from now on the daemon is as ready as `observer` says.
    pub(crate) fn show(&self, observer: Observer) {
        // It is shown once; a second one would see the same daemon.
        let _shown = self.window.observer.set(observer);
    }

    /// Finishes the answers that have begun, for a moment at most, and ends the thread.
    pub(crate) fn close(self) {
        self.window.end.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked; this is a bug");
        }
    }
}

fn listener(source: ListenSource) -> Result<TcpListener, BindError> {
    let (address, bound) = match source {
        // The library sets SO_REUSEADDR, so that connections of a predecessor are not in the way.
        ListenSource::Address(ListenAddress::Tcp(address)) => {
            (address.to_string(), TcpListener::bind(address))
        }
        ListenSource::ActivatedTcp { socket, address } => (address.to_string(), Ok(socket)),
        ListenSource::Address(ListenAddress::Unix(address)) | ListenSource::ActivatedUnix { address, .. } => {
            (address.path.display().to_string(), Err(io::ErrorKind::Unsupported.into()))
        }
    };
    let bound = bound.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|source: io::Error| BindError {
        address: format!("http://{address}"),
        hint: match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process listens there; stop it or choose another listen.admin"
            }
            io::ErrorKind::AddrNotAvailable => "this machine has no such address; see listen.admin",
            io::ErrorKind::PermissionDenied => "the daemon's user may not; choose a port above 1023",
            _ => "see listen.admin in the configuration",
        },
        source,
    })
}
