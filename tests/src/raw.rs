//! A connection on which a test says exactly what it wants, byte by byte, and reads frames back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;
use windlass_protocol::{
    Close, Extensions, Failure, FailureCode, GoAway, Header, Hello, Kind, KindNumber, NoFields, PREFACE,
    PREFIX_BYTES, PRIORITY_INTERACTIVE, Prefix, Query, SUBJECT_STATUS, Work, append_frame,
};

use crate::PATIENCE;

/// One end of a connection.
pub struct Raw {
    stream: TcpStream,
    preface_read: bool,
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: u64,
    /// Its header, not decoded.
    pub header: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Frame {
    /// The code, where it is a Failure.
    pub fn failure(&self) -> Option<(FailureCode, String, bool)> {
        let failure = (self.kind == Kind::Failure).then(|| Failure::decode(&self.header).unwrap())?;
        Some((failure.code(), failure.message.to_owned(), failure.retry_safe))
    }

    /// The last id and the reason, where it is a GoAway.
    pub fn go_away(&self) -> Option<(u64, u16)> {
        let go_away = (self.kind == Kind::GoAway).then(|| GoAway::decode(&self.header).unwrap())?;
        Some((go_away.last_id, go_away.reason))
    }
}

/// The frame of a request.
pub fn work(id: u64, operation: &str, parameters: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    work_within(id, operation, parameters, None, body)
}

/// The frame of a request with a deadline in milliseconds.
pub fn work_within(
    id: u64,
    operation: &str,
    parameters: &[(&str, &str)],
    deadline: Option<u64>,
    body: &[u8],
) -> Vec<u8> {
    let header = Work { parameters: parameters.to_vec(), deadline, ..plain(operation) };
    let mut bytes = Vec::new();
    append_frame(&mut bytes, Kind::Work, id, &header, body);
    bytes
}

/// The frame of a request with a priority.
pub fn work_of(priority: u8, id: u64, operation: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
    let header = Work { parameters: parameters.to_vec(), priority, ..plain(operation) };
    let mut bytes = Vec::new();
    append_frame(&mut bytes, Kind::Work, id, &header, b"");
    bytes
}

fn plain(operation: &str) -> Work<'_> {
    Work {
        operation,
        parameters: Vec::new(),
        sent_at: 0,
        deadline: None,
        priority: PRIORITY_INTERACTIVE,
        body_total: None,
        extensions: Extensions::default(),
    }
}

/// The frame of a Cancel.
pub fn cancel(id: u64) -> Vec<u8> {
    bare(Kind::Cancel, id, &[])
}

/// The frame of a Ping.
pub fn ping(id: u64, body: &[u8]) -> Vec<u8> {
    bare(Kind::Ping, id, body)
}

/// The frame of a Query.
pub fn query(id: u64, subject: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    let query = Query { subject, extensions: Extensions::default() };
    append_frame(&mut bytes, Kind::Query, id, &query, &[]);
    bytes
}

fn bare(kind: Kind, id: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, kind, id, &NoFields::default(), body);
    bytes
}

/// The preface and an ordinary Hello.
pub fn greeting() -> Vec<u8> {
    let hello = Hello {
        version_min: 1,
        version_max: 1,
        features: 0,
        frame_bytes_max: u32::MAX,
        window: 0,
        client: "raw",
        extensions: Extensions::default(),
    };
    let mut bytes = PREFACE.to_vec();
    append_frame(&mut bytes, Kind::Hello, 0, &hello, &[]);
    bytes
}

/// The frame of a Close.
pub fn close() -> Vec<u8> {
    let mut bytes = Vec::new();
    let header = Close { opened_at: 0, closed_at: 0, extensions: Extensions::default() };
    append_frame(&mut bytes, Kind::Close, 0, &header, &[]);
    bytes
}

impl Raw {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(host_port: &str) -> Self {
        let stream = TcpStream::connect(host_port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, preface_read: false }
    }

    /// Connects, greets and reads the Welcome.
    #[track_caller]
    pub fn open(host_port: &str) -> Self {
        let mut raw = Self::connect(host_port);
        raw.send(&greeting());
        let welcome = raw.frame().expect("a Welcome");
        assert_eq!(welcome.kind, Kind::Welcome, "{welcome:?}");
        raw
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Ends the write side.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The next frame, or `None` at an orderly end of the stream. A reset fails the test.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        if !self.preface_read {
            let mut preface = [0; 8];
            self.stream.read_exact(&mut preface).expect("the daemon's preface");
            assert_eq!(preface, PREFACE);
            self.preface_read = true;
        }
        let mut prefix = [0; PREFIX_BYTES];
        match self.stream.read_exact(&mut prefix[..1]) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
            read => read.expect("a frame or the end"),
        }
        self.stream.read_exact(&mut prefix[1..]).expect("a whole prefix");
        let prefix = Prefix::from_bytes(prefix);
        let KindNumber::Known(kind) = prefix.check().expect("a frame that keeps the rules") else {
            panic!("a kind that the daemon does not have: {prefix:?}")
        };
        let mut header = vec![0; usize::from(prefix.header_len)];
        self.stream.read_exact(&mut header).expect("a whole header");
        let mut body = vec![0; prefix.body_len as usize];
        self.stream.read_exact(&mut body).expect("a whole body");
        Some(Frame { kind, id: prefix.id, header, body })
    }

    /// Every frame until the end of the stream.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.frame()).collect()
    }

    /// All bytes until the end of the stream, whatever they are.
    #[track_caller]
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).expect("an orderly end");
        bytes
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// Asks for the status.
#[track_caller]
pub fn status(connection: &mut Raw) -> Value {
    connection.send(&query(u64::MAX / 2, SUBJECT_STATUS));
    let info = connection.frame().expect("an Info");
    assert_eq!(info.kind, Kind::Info, "{info:?}");
    serde_json::from_slice(&info.body).unwrap()
}
