//! Windlass's own protocol.

use windlass_protocol::{
    Extensions, Hello, Kind as Frame, NoFields, PREFACE, PREFIX_BYTES, PRIORITY_INTERACTIVE, Prefix, VERSION,
    Work, append_frame, append_frame_head,
};

use super::{Answer, Kind, Protocol};

/// Where in an encoded frame the id stands.
const ID_AT: usize = 8;

/// Requests of one operation, or pings.
pub(crate) struct Native {
    greeting: Vec<u8>,
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Native {
    pub(crate) fn work(operation: &str, parameters: &[(&str, &str)], body: Vec<u8>) -> Self {
        let header = Work {
            operation,
            parameters: parameters.to_vec(),
            sent_at: 0,
            deadline: None,
            priority: PRIORITY_INTERACTIVE,
            body_total: None,
            extensions: Extensions::default(),
        };
        let mut head = Vec::new();
        let body_len = u32::try_from(body.len()).expect("bodies are a few MiB");
        append_frame_head(&mut head, Frame::Work, 0, &header, body_len);
        Self { greeting: greeting(), head, body }
    }

    /// Round trips through the I/O world alone.
    pub(crate) fn ping() -> Self {
        let mut head = Vec::new();
        append_frame(&mut head, Frame::Ping, 0, &NoFields::default(), b"");
        Self { greeting: greeting(), head, body: Vec::new() }
    }
}

fn greeting() -> Vec<u8> {
    let mut greeting = PREFACE.to_vec();
    let hello = Hello {
        version_min: VERSION,
        version_max: VERSION,
        features: 0,
        frame_bytes_max: 128 << 20,
        window: 0,
        client: "windlass-bench",
        extensions: Extensions::default(),
    };
    append_frame(&mut greeting, Frame::Hello, 0, &hello, b"");
    greeting
}

impl Protocol for Native {
    fn greeting(&self) -> &[u8] {
        &self.greeting
    }

    fn head(&self, id: u64, out: &mut Vec<u8>) {
        let at = out.len() + ID_AT;
        out.extend_from_slice(&self.head);
        out[at..at + 8].copy_from_slice(&id.to_le_bytes());
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        if bytes.len() < PREFACE.len() {
            return Ok(None);
        }
        // No kind of frame has the number of its first letter.
        if bytes.starts_with(&PREFACE) {
            return Ok(Some(Answer { bytes: PREFACE.len(), kind: Kind::Other }));
        }
        let Some(prefix) = Prefix::peek(bytes) else { return Ok(None) };
        let length = PREFIX_BYTES + usize::from(prefix.header_len) + prefix.body_len as usize;
        let kind = match prefix.kind {
            kind if kind == Frame::Reply.number() || kind == Frame::Pong.number() => Kind::Reply,
            kind if kind == Frame::Welcome.number() => Kind::Ready,
            kind if kind == Frame::Failure.number() => Kind::Refused,
            kind if kind == Frame::GoAway.number() => Kind::Other,
            kind => return Err(format!("a frame of kind {kind}")),
        };
        Ok(Some(Answer { bytes: length, kind }))
    }
}
