//! HTTP/2 on a socket, frame by frame (RFC 9113): what a test says is what is sent. Heads are written without any
//! compression, and of the daemon's only the status is read.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::PATIENCE;

/// Types of frames.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of RFC 9113 §6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const GOAWAY: u8 = 7;
    pub const CONTINUATION: u8 = 9;
}

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What follows is not wanted any more.
pub const CANCEL: u32 = 8;
/// The stream was not begun.
pub const REFUSED_STREAM: u32 = 7;

/// The peer does too much of something.
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// One end of a connection.
pub struct H2 {
    stream: TcpStream,
    host: String,
}

/// A frame that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code that a RST_STREAM begins with, and a GOAWAY ends with.
    #[track_caller]
    pub fn error(&self) -> u32 {
        let at = if self.kind == kind::GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    /// Whether this is the head of an answer with status 200: the first field, from the static table of RFC 7541.
    pub fn is_ok(&self) -> bool {
        self.kind == kind::HEADERS && self.payload.first() == Some(&0x88)
    }

    /// Whether its stream ends with it.
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The bytes that reset a stream.
pub fn reset(stream: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &CANCEL.to_be_bytes())
}

/// A field that is in no table (RFC 7541 §6.2.2).
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| -> Vec<u8> {
        // A length of 127 and more goes on in groups of seven bits.
        let mut bytes = Vec::new();
        match u8::try_from(text.len()) {
            Ok(short @ ..127) => bytes.push(short),
            _ => {
                let mut left = text.len() - 127;
                bytes.push(127);
                while left >= 128 {
                    bytes.push(u8::try_from(left % 128).unwrap() | 128);
                    left /= 128;
                }
                bytes.push(u8::try_from(left).unwrap());
            }
        }
        [bytes, text.as_bytes().to_vec()].concat()
    };
    [vec![0], text(name), text(value)].concat()
}

impl H2 {
    /// Connects, with prior knowledge, and announces nothing.
    #[track_caller]
    pub fn connect(host_port: &str) -> Self {
        let stream = TcpStream::connect(host_port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut connection = Self { stream, host: host_port.to_owned() };
        let settings = frame(kind::SETTINGS, 0, 0, &[]);
        connection.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), settings].concat());
        connection
    }

    /// Sends bytes.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends as much as the peer takes; whether that was all.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// The bytes of a head without its frame, with these fields more.
    pub fn head(&self, method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let fields = [(":method", method), (":scheme", "http"), (":path", path), (":authority", &self.host)];
        fields.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
    }

    /// The bytes of a POST.
    pub fn post(&self, stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
        let head = frame(kind::HEADERS, END_HEADERS, stream, &self.head("POST", path, &[]));
        [head, frame(kind::DATA, END_STREAM, stream, body)].concat()
    }

    /// The bytes of a GET.
    pub fn get(&self, stream: u32, path: &str) -> Vec<u8> {
        frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &self.head("GET", path, &[]))
    }

    /// The next frame, or the end of the stream, however it comes.
    pub fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of this type.
    #[track_caller]
    pub fn await_kind(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.read().expect("the connection goes on");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The body of the answer on this stream, which has to have status 200; frames of others are passed over.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.read().expect("the connection goes on");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                kind::HEADERS => assert!(frame.is_ok(), "{frame:?}"),
                kind::DATA => body.extend_from_slice(&frame.payload),
                _ => panic!("no answer: {frame:?}"),
            }
            if frame.ends_stream() {
                return body;
            }
        }
    }
}
