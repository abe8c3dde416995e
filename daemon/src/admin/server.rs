//! The thread behind the admin door: accepts, bounds, and hands requests to [`super::answers`].

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::Window;
use super::answers::answer;

/// The name of the thread.
const THREAD: &str = "windlass-admin";

/// Connections at the same time. Their descriptors are of those that are kept back from `limits.connections`.
const CONNECTIONS_MAX: usize = 32;

/// For a request's head to arrive.
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);

/// For the whole of one exchange; a connection is good for one.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(10);

/// What is buffered of a connection, and so the largest head.
const BUFFER_BYTES_MAX: usize = 16 * 1024;

/// Most headers of a request; browsers send some twenty.
const HEADERS_MAX: usize = 64;

/// Pause after the system had no descriptor for a connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// For answers that have begun to be written at the end of the process.
const LAST_ANSWERS: Duration = Duration::from_millis(200);

/// Starts the thread; it ends when the window's `end` is told.
pub(super) fn start(listener: TcpListener, window: Arc<Window>) -> io::Result<JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new()
        .name(THREAD.to_owned())
        .spawn(move || runtime.block_on(serve(listener, window)))
}

/// Accepts until the end. When all places are taken, the connection that has been there longest makes way: an honest
/// exchange takes milliseconds, so it is one that stalls.
async fn serve(listener: tokio::net::TcpListener, window: Arc<Window>) {
    let mut exchanges = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    let told = Arc::clone(&window);
    let mut ended = pin!(told.end.notified());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut ended => break,
            // Results are not of interest; what has ended is not to be kept.
            Some(_) = exchanges.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "the admin door cannot accept");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                continue;
            }
        };
        window.accepted.fetch_add(1, Ordering::Relaxed);
        oldest_first.retain(|exchange| !exchange.is_finished());
        if oldest_first.len() >= CONNECTIONS_MAX
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        oldest_first.push_back(exchanges.spawn(exchange(stream, Arc::clone(&window))));
    }
    drop(listener);
    let all_written = async { while exchanges.join_next().await.is_some() {} };
    // Whoever has not sent a whole request by now gets no answer.
    let _written = timeout(LAST_ANSWERS, all_written).await;
}

/// One request and its answer.
async fn exchange(stream: TcpStream, window: Arc<Window>) {
    let Ok(local) = stream.local_addr() else { return };
    let here: IpAddr = local.ip();
    let service = service_fn(move |request| {
        let window = Arc::clone(&window);
        async move { answer(request, &window, here).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(EXCHANGE_TIME_MAX, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an admin connection ended early"),
        Err(_) => tracing::debug!("an admin connection took too long"),
    }
}
