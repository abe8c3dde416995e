//! What redis speaks: `ECHO` and its bulk string.

use super::{Answer, Kind, Protocol};

pub(crate) struct Resp {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Resp {
    pub(crate) fn echo(mut body: Vec<u8>) -> Self {
        let head = format!("*2\r\n$4\r\nECHO\r\n${}\r\n", body.len()).into_bytes();
        body.extend_from_slice(b"\r\n");
        Self { head, body }
    }
}

impl Protocol for Resp {
    fn head(&self, _id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        let Some(end) = bytes.iter().take(64).position(|byte| *byte == b'\n') else {
            return match bytes.len() {
                0..64 => Ok(None),
                _ => Err("an answer whose first line does not end".to_owned()),
            };
        };
        let line = std::str::from_utf8(&bytes[1..end.saturating_sub(1).max(1)]).unwrap_or_default();
        match bytes[0] {
            b'$' => {
                let length: usize = line.parse().map_err(|_| format!("a string of length '{line}'"))?;
                Ok(Some(Answer { bytes: end + 1 + length + 2, kind: Kind::Reply }))
            }
            b'+' => Ok(Some(Answer { bytes: end + 1, kind: Kind::Reply })),
            b'-' => Ok(Some(Answer { bytes: end + 1, kind: Kind::Refused })),
            other => Err(format!("an answer that starts with byte {other}")),
        }
    }
}
