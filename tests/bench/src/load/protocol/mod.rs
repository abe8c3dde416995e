//! What a peer speaks, as far as a load generator has to know it.

pub(crate) mod frames;
pub(crate) mod gearman;
pub(crate) mod http;
pub(crate) mod native;
pub(crate) mod resp;

/// How requests are written and answers told apart. Has no state: what has not arrived in full is asked about again.
pub(crate) trait Protocol: Sync {
    /// What is sent before the first request; if there is something, it is answered by [`Kind::Ready`].
    fn greeting(&self) -> &[u8] {
        &[]
    }

    /// Appends what comes before the body of a request. Ids rise from 1.
    fn head(&self, id: u64, out: &mut Vec<u8>);

    /// The body, and what the protocol has behind it.
    fn body(&self) -> &[u8];

    /// The answer at the start of `bytes`, as soon as it can be seen how long it is.
    ///
    /// # Errors
    ///
    /// When the bytes are not of this protocol.
    fn answer(&self, bytes: &[u8]) -> Result<Option<Answer>, String>;
}

/// What starts the bytes that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Length in all, what has yet to arrive included.
    pub(crate) bytes: usize,
    pub(crate) kind: Kind,
}

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The answer to the greeting.
    Ready,
    /// One request is done.
    Reply,
    /// One request was answered, and not with its result.
    Refused,
    /// Something else, to be skipped.
    Other,
}

/// Bytes that do not compress and are the same in every run (xorshift64, Marsaglia 2003).
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect()
}
