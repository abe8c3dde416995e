//! Headers as bytes. The only file that names bincode, so that it can be replaced without touching a message.
//!
//! bincode 2 with its standard configuration: little endian, variable-length integers. It is unmaintained
//! (RUSTSEC-2025-0141), therefore pinned, given complete bounded slices only, and never trusted with a length: lists
//! are bounded by [`bounded_list`], everything else by the slice.

use std::fmt;
use std::marker::PhantomData;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::DecodeError;
use crate::limits::HEADER_BYTES_MAX;

/// What decoding one header may add up to. bincode counts 8 bytes for each integer, even one that takes a single byte
/// on the wire, so this is the most that a header within [`HEADER_BYTES_MAX`] can reach.
const BYTES_MAX: usize = 8 * HEADER_BYTES_MAX as usize;

fn configuration() -> Configuration<LittleEndian, Varint, Limit<BYTES_MAX>> {
    bincode::config::standard().with_limit::<BYTES_MAX>()
}

/// Appends the bytes of a header.
pub(crate) fn append(out: &mut Vec<u8>, header: &impl Serialize) {
    bincode::serde::encode_into_writer(header, Appender(out), bincode::config::standard())
        .expect("headers are plain structs and a Vec takes every byte");
}

/// Writes to the end of a Vec, which cannot fail.
struct Appender<'a>(&'a mut Vec<u8>);

impl Writer for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Reads a header from all of `bytes`.
pub(crate) fn read<'a, T: Deserialize<'a>>(kind: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    let (header, used) = read_begin(kind, bytes)?;
    match bytes.len() - used {
        0 => Ok(header),
        count => Err(DecodeError::TrailingBytes { kind, count }),
    }
}

/// Reads the first fields of a header, and says how many of `bytes` they take.
pub(crate) fn read_begin<'a, T: Deserialize<'a>>(
    kind: &'static str,
    bytes: &'a [u8],
) -> Result<(T, usize), DecodeError> {
    bincode::serde::borrow_decode_from_slice(bytes, configuration())
        .map_err(|error| DecodeError::Malformed { kind, reason: reason(&error) })
}

/// What a stranger can make of it.
fn reason(error: &bincode::error::DecodeError) -> String {
    use bincode::error::DecodeError as Found;
    match error {
        Found::UnexpectedEnd { .. } => "it ends inside its fields".to_owned(),
        Found::Utf8 { .. } => "a text is not UTF-8".to_owned(),
        Found::InvalidBooleanValue(found) => format!("{found} is not a bool"),
        Found::InvalidIntegerType { .. } => "an integer is wider than its field".to_owned(),
        Found::OtherString(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// Reads a list of at most `MAX` elements and refuses a longer one before reserving room for it.
pub(crate) fn bounded_list<'de, const MAX: usize, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Bounded<const MAX: usize, T>(PhantomData<T>);

    impl<'de, const MAX: usize, T: Deserialize<'de>> Visitor<'de> for Bounded<MAX, T> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list of at most {MAX} elements")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Vec<T>, A::Error> {
            let count = elements.size_hint().unwrap_or(0);
            if count > MAX {
                return Err(A::Error::invalid_length(count, &self));
            }
            let mut list = Vec::with_capacity(count);
            while let Some(element) = elements.next_element()? {
                list.push(element);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(Bounded::<MAX, T>(PhantomData))
}
