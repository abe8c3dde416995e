//! The bare minimum with two worlds: tokio reads frames of a length and as many bytes, and what one read delivered
//! crosses to a rayon pool and back as one job. Or, with two ends and nothing between: bodies are read, forgotten and
//! answered with an empty frame, which bounds what any server can reach.

use std::io;
use std::sync::Arc;

use rayon::ThreadPool;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

use super::{Niceness, on_pool, pool};
use crate::load::frames::frame_bytes;

/// Room for one read.
const READ_BYTES: usize = 64 << 10;

/// Name of the Unix socket in the working directory.
pub(crate) const SOCKET: &str = "frames.sock";

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Answering {
    Echo,
    Nothing,
}

impl Answering {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Nothing => "nothing",
        }
    }
}

/// Serves on the listener and on a Unix socket until it is killed.
pub(crate) async fn serve(listener: TcpListener, answering: Answering) -> io::Result<()> {
    let unix = UnixListener::bind(SOCKET)?;
    let pool = Arc::new(pool(Niceness::Own));
    let of_unix = Arc::clone(&pool);
    tokio::spawn(async move {
        while let Ok((stream, _)) = unix.accept().await {
            converse(stream, answering, &of_unix);
        }
    });
    serve_tcp(listener, answering, pool).await
}

pub(crate) async fn serve_tcp(
    listener: TcpListener,
    answering: Answering,
    pool: Arc<ThreadPool>,
) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        converse(stream, answering, &pool);
    }
}

fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    answering: Answering,
    pool: &Arc<ThreadPool>,
) {
    match answering {
        Answering::Echo => drop(tokio::spawn(echo(stream, Arc::clone(pool)))),
        Answering::Nothing => drop(tokio::spawn(forget(stream))),
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin, pool: Arc<ThreadPool>) -> io::Result<()> {
    let mut read = Vec::with_capacity(READ_BYTES);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        let whole = whole_frames(&read);
        if whole == 0 {
            continue;
        }
        let rest = read.split_off(whole);
        let frames = std::mem::replace(&mut read, rest);
        read.reserve(READ_BYTES);
        let Some(echoed) = on_pool(&pool, move || frames).await else { return Ok(()) };
        stream.write_all(&echoed).await?;
    }
}

async fn forget(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(256 << 10, stream);
    loop {
        let mut left = stream.read_u32_le().await? as usize;
        while left > 0 {
            let found = stream.fill_buf().await?.len();
            if found == 0 {
                return Ok(());
            }
            stream.consume(found.min(left));
            left -= found.min(left);
        }
        stream.write_u32_le(0).await?;
    }
}

/// How many bytes of `read` are frames that have arrived in full.
fn whole_frames(read: &[u8]) -> usize {
    let mut at = 0;
    while let Some(length) = frame_bytes(&read[at..]).filter(|length| at + length <= read.len()) {
        at += length;
    }
    at
}
