//! Gearman's binary protocol, the client's side and what the worker shares with it (gearman.org/protocol).

use super::{Answer, Kind, Protocol};

/// Magic, type and size.
pub(crate) const HEAD_BYTES: usize = 12;

/// Types of packet.
pub(crate) mod packet {
    pub(crate) const CAN_DO: u32 = 1;
    pub(crate) const PRE_SLEEP: u32 = 4;
    pub(crate) const NOOP: u32 = 6;
    pub(crate) const SUBMIT_JOB: u32 = 7;
    pub(crate) const JOB_CREATED: u32 = 8;
    pub(crate) const GRAB_JOB: u32 = 9;
    pub(crate) const NO_JOB: u32 = 10;
    pub(crate) const JOB_ASSIGN: u32 = 11;
    pub(crate) const WORK_COMPLETE: u32 = 13;
    pub(crate) const WORK_FAIL: u32 = 14;
    pub(crate) const ECHO_REQ: u32 = 16;
    pub(crate) const ECHO_RES: u32 = 17;
    pub(crate) const ERROR: u32 = 19;
}

/// Jobs of one function, or echoes that no worker sees.
pub(crate) struct Gearman {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Gearman {
    pub(crate) fn job(function: &str, body: Vec<u8>) -> Self {
        let mut head = Vec::new();
        append_head(&mut head, packet::SUBMIT_JOB, function.len() + 2 + body.len());
        head.extend_from_slice(function.as_bytes());
        head.extend_from_slice(&[0, 0]);
        Self { head, body }
    }

    pub(crate) fn echo(body: Vec<u8>) -> Self {
        let mut head = Vec::new();
        append_head(&mut head, packet::ECHO_REQ, body.len());
        Self { head, body }
    }
}

/// Appends the head of a request of a client or worker, for `length` bytes that follow.
pub(crate) fn append_head(out: &mut Vec<u8>, packet: u32, length: usize) {
    out.extend_from_slice(b"\0REQ");
    out.extend_from_slice(&packet.to_be_bytes());
    out.extend_from_slice(&u32::try_from(length).expect("packets are a few MiB").to_be_bytes());
}

/// Type and length in all of the packet that starts `bytes`.
pub(crate) fn read_head(bytes: &[u8]) -> Option<(u32, usize)> {
    let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    Some((word(4)?, HEAD_BYTES + word(8)? as usize))
}

impl Protocol for Gearman {
    fn head(&self, _id: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>, String> {
        let Some((packet, bytes)) = read_head(bytes) else { return Ok(None) };
        let kind = match packet {
            packet::WORK_COMPLETE | packet::ECHO_RES => Kind::Reply,
            packet::WORK_FAIL | packet::ERROR => Kind::Refused,
            packet::JOB_CREATED => Kind::Other,
            other => return Err(format!("a packet of type {other}")),
        };
        Ok(Some(Answer { bytes, kind }))
    }
}
