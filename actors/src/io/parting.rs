//! How a connection whose last word is written is closed: so that the peer can read it.

use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::hall::Hall;
use super::stream::Stream;
use crate::lifecycle::Phase;

/// How long a peer that was told to go has to close its side, counted from the last byte that it sent. Closing
/// before that could destroy what it has not read yet.
pub const LINGER: Duration = Duration::from_millis(250);

/// How long a peer that keeps sending may take to notice, at the most.
pub(super) const LINGER_MAX: Duration = Duration::from_secs(5);

/// How much such a peer may send, so that a large body that was refused does not end in a reset.
pub(super) const LINGER_BYTES_MAX: u64 = 1 << 30;

/// What is thrown away at once.
const DISCARD_BYTES: usize = 8 * 1024;

impl Stream {
    /// Ends the write side, throws away what still comes, and closes once the peer has closed or had its time. Not
    /// cancelled by anything but the end of the daemon.
    ///
    /// # Errors
    ///
    /// What the system says of a peer that is gone.
    pub async fn part(mut self, hall: &Hall) -> io::Result<()> {
        self.shutdown().await?;
        let drains = *hall.phase().borrow() >= Phase::Draining;
        let last = Instant::now() + if drains { LINGER } else { LINGER_MAX };
        let mut discarded = 0;
        let mut buffer = vec![0; DISCARD_BYTES];
        while discarded < LINGER_BYTES_MAX {
            let until = last.min(Instant::now() + LINGER);
            match tokio::time::timeout_at(until.into(), self.read(&mut buffer)).await {
                Ok(Ok(read)) if read > 0 => discarded += read as u64,
                Ok(Err(error)) => return Err(error),
                _ => break,
            }
        }
        Ok(())
    }
}
