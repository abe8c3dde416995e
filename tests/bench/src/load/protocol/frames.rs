//! The least that a protocol can be: a length and as many bytes. What a server of a few lines would speak.

use super::{Answer, Kind, Protocol};

/// Length of the length.
pub(crate) const HEAD_BYTES: usize = 4;

pub(crate) struct Frames {
    body: Vec<u8>,
}

impl Frames {
    pub(crate) fn echo(body: Vec<u8>) -> Self {
        Self { body }
    }
}

/// Length in all of the frame that starts `bytes`.
pub(crate) fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    let head = bytes.first_chunk::<HEAD_BYTES>()?;
    Some(HEAD_BYTES + u32::from_le_bytes(*head) as usize)
}

impl Protocol for Frames {
    fn head(&self, _id: u64, out: &mut Vec<u8>) {
        let length = u32::try_from(self.body.len()).expect("bodies are a few MiB");
        out.extend_from_slice(&length.to_le_bytes());
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        Ok(frame_bytes(bytes).map(|bytes| Answer { bytes, kind: Kind::Reply }))
    }
}
