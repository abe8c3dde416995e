//! What makes two requests the same: operation, parameters and body. Taken by workers, never by the I/O world.

use crate::operation::{Arguments, OperationIndex};

/// 256 bits of BLAKE3, so that nobody can make two different requests the same.
pub(super) type Digest = [u8; blake3::OUT_LEN];

pub(super) fn digest(operation: OperationIndex, arguments: &Arguments, input: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&operation.0.to_le_bytes());
    // Length first, so that no parameter can pass for a part of the body.
    let arguments = format!("{arguments:?}");
    hasher.update(&(arguments.len() as u64).to_le_bytes());
    hasher.update(arguments.as_bytes());
    hasher.update(input);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_request_counts() {
        let none = Arguments::default();
        let one = digest(OperationIndex(1), &none, b"input");
        assert_eq!(one, digest(OperationIndex(1), &none, b"input"));
        assert_ne!(one, digest(OperationIndex(2), &none, b"input"));
        assert_ne!(one, digest(OperationIndex(1), &none, b"inpu"));
    }
}
