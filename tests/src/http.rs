//! HTTP on a socket, byte by byte: what a test says is what is sent.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use crate::PATIENCE;

/// One end of a connection.
pub struct Http {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// An answer that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of this name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The problem document that the body has to be, of the same status as the answer.
    #[track_caller]
    pub fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{problem}");
        for field in ["type", "title", "detail", "code", "name", "retry_safe"] {
            assert!(!problem[field].is_null(), "{field} in {problem}");
        }
        problem
    }

    /// Whether the connection ends with this answer.
    pub fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// A request with a body of known length. `head` is the request line and any headers, in lines.
pub fn request(head: &str, body: &[u8]) -> Vec<u8> {
    let mut lines = head.lines();
    let mut text = format!("{} HTTP/1.1\r\nhost: localhost\r\n", lines.next().unwrap());
    for line in lines {
        text += &format!("{}\r\n", line.trim());
    }
    if !body.is_empty() || head.starts_with("POST") {
        text += &format!("content-length: {}\r\n", body.len());
    }
    let mut bytes = format!("{text}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Connects, sends one request and reads its answer.
#[track_caller]
pub fn ask(host_port: &str, head: &str, body: &[u8]) -> Answer {
    let mut connection = Http::connect(host_port);
    connection.send(&request(head, body));
    connection.answer().expect("an answer")
}

impl Http {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(host_port: &str) -> Self {
        let stream = TcpStream::connect(host_port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, unread: Vec::new() }
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

    /// Ends the write side.
    #[track_caller]
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The stream itself.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads more; false at the end of the stream. A reset fails the test.
    #[track_caller]
    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        let read = self.stream.read(&mut bytes).expect("an answer or an orderly end");
        self.unread.extend_from_slice(&bytes[..read]);
        read > 0
    }

    /// Reads a head, without what follows it: status and headers.
    #[track_caller]
    pub fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let end = loop {
            if let Some(end) = self.unread.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end;
            }
            if !self.more() {
                assert!(self.unread.is_empty(), "cut off: {}", String::from_utf8_lossy(&self.unread));
                return None;
            }
        };
        let head: Vec<u8> = self.unread.drain(..end + 4).collect();
        let text = String::from_utf8(head).unwrap();
        let mut lines = text.trim_end().lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some((status, headers))
    }

    /// Reads the next final answer, or the end of the stream.
    #[track_caller]
    pub fn answer(&mut self) -> Option<Answer> {
        let (status, headers) = loop {
            match self.head()? {
                (100, _) => {}
                head => break head,
            }
        };
        let mut answer = Answer { status, headers, body: Vec::new() };
        let length: usize = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            assert!(self.more(), "the body is cut off");
        }
        answer.body = self.unread.drain(..length).collect();
        Some(answer)
    }

    /// Whether the stream ends here.
    #[track_caller]
    pub fn ends(&mut self) -> bool {
        self.unread.is_empty() && !self.more()
    }
}
