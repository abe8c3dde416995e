//! A scripted daemon on loopback, in a thread of its own.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;

use crate::client::{Address, Options};
use crate::message::{self, Extensions, Header};
use crate::{FailureCode, Kind, PREFACE, PREFIX_BYTES, Prefix, append_frame};

/// One accepted connection.
pub(super) struct Peer {
    stream: TcpStream,
    pub(super) out: Vec<u8>,
    /// Which connection it is, from 0.
    pub(super) index: usize,
}

/// A frame from the client.
pub(super) struct Received {
    pub(super) prefix: Prefix,
    pub(super) header: Vec<u8>,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn kind(&self) -> u8 {
        self.prefix.kind
    }
}

/// Runs `script` for each connection, one task each, and says where.
pub(super) fn start<F>(script: impl Fn(Peer) -> F + Send + 'static) -> Address
where
    F: Future<Output = Option<()>> + Send + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            for index in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(script(Peer { stream, out: Vec::new(), index }));
            }
        });
    });
    Address::Tcp { host: "127.0.0.1".to_owned(), port }
}

/// An address where nobody listens.
pub(super) fn nobody() -> Address {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    Address::Tcp { host: "127.0.0.1".to_owned(), port }
}

/// How long [`Peer::refuse_the_first`] sends the request away.
pub(super) const ASKED_MS: u64 = 60;

/// Checks that it came back no sooner than it was told, and asked for what was left of its deadline.
pub(super) async fn came_back_in_time(came: &mut UnboundedReceiver<(Instant, u64)>) {
    let (first, second) = (heard(came).await, heard(came).await);
    assert!(second.0 - first.0 >= Duration::from_millis(ASKED_MS));
    assert!(second.1 + ASKED_MS <= first.1, "{} after {}", second.1, first.1);
}

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The next message of the script; a script that says nothing fails the test.
pub(super) async fn heard<T>(from: &mut UnboundedReceiver<T>) -> T {
    timeout(PATIENCE, from.recv()).await.expect("the script says nothing").expect("the script has ended")
}

/// Options that wait hardly at all between attempts, and for answers no longer than a test should.
pub(super) fn hasty() -> Options {
    let mut options = Options::named("test");
    options.answer_timeout = PATIENCE;
    options.backoff.first = Duration::from_millis(1);
    options.backoff.longest = Duration::from_millis(4);
    options
}

impl Peer {
    /// Reads preface and Hello and says Welcome with these limits.
    pub(super) async fn greet_with(&mut self, body_bytes_max: u64, in_flight_max: u32) -> Option<()> {
        let mut preface = [0; 8];
        self.stream.read_exact(&mut preface).await.ok()?;
        assert_eq!(preface, PREFACE);
        let hello = self.receive().await?;
        assert_eq!(message::Hello::decode(&hello.header).unwrap().client, "test");
        self.out.extend_from_slice(&PREFACE);
        let welcome = message::Welcome {
            version: 1,
            features: 0,
            frame_bytes_max: 1 << 24,
            window: 0,
            body_bytes_max,
            in_flight_max,
            server: "fake",
            extensions: Extensions::default(),
        };
        append_frame(&mut self.out, Kind::Welcome, 0, &welcome, &[]);
        self.flush().await
    }

    pub(super) async fn greet(&mut self) -> Option<()> {
        self.greet_with(1 << 20, 64).await
    }

    /// The next frame, or `None` at the end of the stream.
    pub(super) async fn receive(&mut self) -> Option<Received> {
        let mut bytes = [0; PREFIX_BYTES];
        self.stream.read_exact(&mut bytes).await.ok()?;
        let prefix = Prefix::from_bytes(bytes);
        let mut header = vec![0; usize::from(prefix.header_len)];
        self.stream.read_exact(&mut header).await.ok()?;
        let mut body = vec![0; prefix.body_len as usize];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Received { prefix, header, body })
    }

    /// The next frame, which must be a Work.
    pub(super) async fn work(&mut self) -> Option<Received> {
        let frame = self.receive().await?;
        assert_eq!(frame.kind(), Kind::Work.number());
        Some(frame)
    }

    pub(super) fn reply(&mut self, id: u64, body: &[u8]) {
        let reply = message::Reply {
            queue_time: 3,
            service_time: 4,
            load: 5,
            body_total: None,
            extensions: Extensions::default(),
        };
        append_frame(&mut self.out, Kind::Reply, id, &reply, body);
    }

    pub(super) fn failure(&mut self, id: u64, code: FailureCode, retry_safe: bool) {
        self.put_failure(id, code, retry_safe, None);
    }

    /// Refused, with the time after which the request may come again, milliseconds.
    pub(super) fn busy(&mut self, id: u64, retry_after: u64) {
        self.put_failure(id, FailureCode::OVERLOADED, true, Some(retry_after));
    }

    fn put_failure(&mut self, id: u64, code: FailureCode, retry_safe: bool, retry_after: Option<u64>) {
        let failure = message::Failure {
            code: code.number(),
            message: "as scripted",
            retry_after,
            retry_safe,
            load: 0,
            extensions: Extensions::default(),
        };
        append_frame(&mut self.out, Kind::Failure, id, &failure, &[]);
    }

    pub(super) fn go_away(&mut self, last_id: u64) {
        let away = message::GoAway {
            last_id,
            reason: FailureCode::DRAINING.number(),
            extensions: Extensions::default(),
        };
        append_frame(&mut self.out, Kind::GoAway, 0, &away, &[]);
    }

    pub(super) fn closed(&mut self, requests: u64) {
        let closed = message::Closed {
            requests,
            failures: 0,
            bytes_in: 0,
            bytes_out: 0,
            queue_time: 0,
            service_time: 0,
            extensions: Extensions::default(),
        };
        append_frame(&mut self.out, Kind::Closed, 0, &closed, &[]);
    }

    pub(super) async fn flush(&mut self) -> Option<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await.ok()
    }

    /// Ends the stream in this direction and reads until the client does too.
    pub(super) async fn finish(mut self) -> Option<()> {
        self.flush().await?;
        self.stream.shutdown().await.ok()?;
        while self.receive().await.is_some() {}
        Some(())
    }

    /// Refuses the first request for [`ASKED_MS`] and sends when each came and what deadline it had; then serves.
    pub(super) async fn refuse_the_first(mut self, came: UnboundedSender<(Instant, u64)>) -> Option<()> {
        self.greet().await?;
        for is_refused in [true, false] {
            let frame = self.work().await?;
            let deadline = message::Work::decode(&frame.header).unwrap().deadline.unwrap();
            came.send((Instant::now(), deadline)).ok()?;
            match is_refused {
                true => self.busy(frame.prefix.id, ASKED_MS),
                false => self.reply(frame.prefix.id, &frame.body),
            }
            self.flush().await?;
        }
        self.serve().await
    }

    /// Answers everything as `echo`, `Ping`, `Query` and `Close` are answered, until the client leaves.
    pub(super) async fn serve(mut self) -> Option<()> {
        let mut requests = 0;
        loop {
            let frame = self.receive().await?;
            let id = frame.prefix.id;
            match frame.kind() {
                3 => {
                    requests += 1;
                    self.reply(id, &frame.body);
                }
                9 => append_frame(&mut self.out, Kind::Pong, id, &(), &frame.body),
                11 => append_frame(&mut self.out, Kind::Info, id, &(), b"{}"),
                14 => {
                    self.closed(requests);
                    return self.finish().await;
                }
                _ => {}
            }
            self.flush().await?;
        }
    }
}
