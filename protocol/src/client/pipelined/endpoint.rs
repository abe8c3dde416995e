//! One of the daemons, and the connection to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};

use crate::client::address::Address;
use crate::client::error::CallError;
use crate::client::link::Link;
use crate::client::options::Options;
use crate::client::request::Totals;

pub(super) struct Endpoint {
    address: Address,
    connection: Mutex<Connection>,
    /// Rises when an attempt to connect fails, so that those who waited for it share its error.
    connects_failed: AtomicU64,
}

enum Connection {
    /// Nobody has tried to connect. Next: `Open`, `Failed`, `Closed`.
    Absent,
    /// The last attempt failed. Next: `Open`, `Closed`.
    Failed(CallError),
    /// Usable until its link ends. Next: `Failed`, `Open`, `Closed`.
    Open(Arc<Link>),
    /// The end.
    Closed,
}

impl Endpoint {
    pub(super) fn new(address: Address) -> Self {
        Self { address, connection: Mutex::new(Connection::Absent), connects_failed: AtomicU64::new(0) }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// The open connection, or a new one. Whoever waits while another connects shares the outcome. Cancel safety:
    /// dropping the future closes what was begun; the next one begins anew.
    pub(super) async fn link(&self, options: &Options, patience: Duration) -> Result<Arc<Link>, CallError> {
        let failed_before = self.connects_failed.load(Ordering::Relaxed);
        let mut connection = self.connection.lock().await;
        match &*connection {
            Connection::Open(link) if link.is_open() => return Ok(Arc::clone(link)),
            Connection::Closed => return Err(CallError::Closed),
            Connection::Failed(error) if self.connects_failed.load(Ordering::Relaxed) != failed_before => {
                return Err(error.clone());
            }
            Connection::Open(_) | Connection::Failed(_) | Connection::Absent => {}
        }
        match Link::open(&self.address, options, patience).await {
            Ok(link) => {
                *connection = Connection::Open(Arc::clone(&link));
                Ok(link)
            }
            Err(error) => {
                self.connects_failed.fetch_add(1, Ordering::Relaxed);
                *connection = Connection::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// Says Close, where there is a connection, and gives who will hear of the totals.
    ///
    /// # Errors
    ///
    /// `Closed` when it was closed before.
    pub(super) async fn close(
        &self,
    ) -> Result<Option<oneshot::Receiver<Result<Totals, CallError>>>, CallError> {
        let mut connection = self.connection.lock().await;
        match std::mem::replace(&mut *connection, Connection::Closed) {
            Connection::Absent | Connection::Failed(_) => Ok(None),
            Connection::Open(link) => Ok(link.close()),
            Connection::Closed => Err(CallError::Closed),
        }
    }
}

impl Drop for Endpoint {
    /// The safety net for a client that was not closed.
    fn drop(&mut self) {
        if let Connection::Open(link) = self.connection.get_mut() {
            link.abort();
        }
    }
}
