//! HTTP/1.1 over connections that are kept.

use super::{Answer, Kind, Protocol};

/// Longest head of an answer that is waited for, bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;

pub(crate) struct Http {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Http {
    pub(crate) fn post(target: &str, body: Vec<u8>) -> Self {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\n\r\n");
        Self { head: head.into_bytes(), body }
    }

    pub(crate) fn get(target: &str) -> Self {
        let head = format!("GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").into_bytes();
        Self { head, body: Vec::new() }
    }
}

impl Protocol for Http {
    fn head(&self, _id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        let mut at = 0;
        let mut length = 0;
        loop {
            let line = bytes.get(at..).unwrap_or_default();
            let Some(end) = line.iter().position(|byte| *byte == b'\n') else {
                return match bytes.len() {
                    0..HEAD_BYTES_MAX => Ok(None),
                    _ => Err("an answer whose head does not end".to_owned()),
                };
            };
            let line = line[..end].trim_ascii_end();
            at += end + 1;
            if line.is_empty() {
                break;
            }
            if let Some(value) = field(line, b"content-length:") {
                let text = String::from_utf8_lossy(value);
                length = text.trim().parse().map_err(|_| format!("a body of length '{text}'"))?;
            } else if field(line, b"transfer-encoding:").is_some() {
                return Err("a body in chunks, which this client does not read".to_owned());
            }
        }
        let kind = match bytes.strip_prefix(b"HTTP/1.1 ") {
            Some([b'2', ..]) => Kind::Reply,
            Some(_) => Kind::Refused,
            None => return Err("an answer that is not HTTP/1.1".to_owned()),
        };
        Ok(Some(Answer { bytes: at + length, kind }))
    }
}

fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}
