//! axum, with handlers that compute where they stand, on tokio's blocking pool, or on a rayon pool.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use rayon::ThreadPool;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Niceness, on_pool, pool};
use crate::work::Work;

/// Where the handlers compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Handlers {
    Inline,
    Blocking,
    Rayon,
    /// The same with the CPU threads at nice 19.
    RayonNice,
}

impl Handlers {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Blocking => "blocking",
            Self::Rayon => "rayon",
            Self::RayonNice => "rayon-nice",
        }
    }
}

enum Place {
    Here,
    BlockingPool,
    Pool(ThreadPool),
}

/// Serves until SIGTERM, and then gracefully, as axum's documentation shows it.
pub(crate) async fn serve(listener: TcpListener, handlers: Handlers) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, router(handlers))
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await
}

/// `POST /{work}` and `GET /ping`.
pub(crate) fn router(handlers: Handlers) -> Router {
    let place = match handlers {
        Handlers::Inline => Place::Here,
        Handlers::Blocking => Place::BlockingPool,
        Handlers::Rayon => Place::Pool(pool(Niceness::Own)),
        Handlers::RayonNice => Place::Pool(pool(Niceness::Lowest)),
    };
    Router::new()
        .route("/ping", get(async || "pong"))
        .route("/{work}", post(compute))
        .layer(DefaultBodyLimit::max(64 << 20))
        .with_state(Arc::new(place))
}

async fn compute(
    State(place): State<Arc<Place>>,
    Path(work): Path<String>,
    body: Bytes,
) -> Result<Vec<u8>, StatusCode> {
    let work = Work::parse(&work).ok_or(StatusCode::NOT_FOUND)?;
    let job = move || work.run(&body);
    let output = match &*place {
        Place::Here => Some(job()),
        #[allow(clippy::disallowed_methods, reason = "this is what it is compared with")]
        Place::BlockingPool => tokio::task::spawn_blocking(job).await.ok(),
        Place::Pool(pool) => on_pool(pool, job).await,
    };
    output.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
}
