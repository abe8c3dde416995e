//! A short, clear word to a connection for which there is no place.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use windlass_protocol::{Extensions, Failure, FailureCode, GoAway, Kind, PREFACE, append_frame};

/// Refusals said at the same time; beyond that, connections wait in the backlog. Their descriptors come from those that
/// are kept back.
pub(crate) const REFUSALS_MAX: usize = 64;

/// How long a refused peer has to read.
const LINGER: Duration = Duration::from_millis(250);

/// What a refused peer may send before it reads.
const DISCARD_BYTES_MAX: u64 = 1024 * 1024;

/// Why there is no place.
pub(crate) fn no_place(limit: usize) -> crate::dispatch::Failure {
    let message = format!("{limit} connections are open, the most that limits.connections allows");
    crate::dispatch::Failure::refused(FailureCode::OVERLOADED, message)
}

/// The same in the native protocol.
pub(crate) fn native_words(failure: &crate::dispatch::Failure, load: u8) -> Vec<u8> {
    let reason = failure.code.number();
    let failure = Failure {
        code: reason,
        message: &failure.message,
        retry_after: None,
        retry_safe: failure.retry_safe,
        load,
        extensions: Extensions::default(),
    };
    let go_away = GoAway { last_id: 0, reason, extensions: Extensions::default() };
    let mut words = PREFACE.to_vec();
    append_frame(&mut words, Kind::Failure, 0, &failure, &[]);
    append_frame(&mut words, Kind::GoAway, 0, &go_away, &[]);
    words
}

/// Says these words and gives the peer a moment to read them.
pub(crate) async fn refuse<S>(mut stream: S, _place: OwnedSemaphorePermit, words: Vec<u8>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // Whatever fails here, the peer is gone or does not read; there is nobody left to tell.
    drop(
        tokio::time::timeout(LINGER, async {
            stream.write_all(&words).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut (&mut stream).take(DISCARD_BYTES_MAX), &mut tokio::io::sink()).await
        })
        .await,
    );
}
