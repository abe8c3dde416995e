//! Inputs of every size and kind that people have.

use fastrand::Rng;

/// An input with a name for messages.
pub struct Sample {
    /// Kind and size.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

type Make = fn(usize) -> Vec<u8>;

const KINDS: [(&str, Make); 4] =
    [("text", text), ("random", random), ("zeros", |size| vec![0; size]), ("compressed", compressed)];

/// Text, random bytes, zeros and bytes that are compressed already, in each of these sizes.
pub fn samples(sizes: &[usize]) -> Vec<Sample> {
    sizes.iter().flat_map(|size| KINDS.map(|(kind, _)| sample(kind, *size))).collect()
}

/// One of these kinds.
#[track_caller]
pub fn sample(kind: &str, size: usize) -> Sample {
    let (_, make) = KINDS.iter().find(|(known, _)| *known == kind).expect("a kind of sample");
    Sample { name: format!("{size} B of {kind}"), bytes: make(size) }
}

fn text(size: usize) -> Vec<u8> {
    const WORDS: [&str; 12] = [
        "the ", "crew ", "leans ", "on ", "bars ", "and ", "anchor ", "rises ", "slowly ", "from ", "deep\n",
        "sea ",
    ];
    let mut rng = Rng::with_seed(size as u64);
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        bytes.extend_from_slice(WORDS[rng.usize(..WORDS.len())].as_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn random(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    Rng::with_seed(size as u64 + 1).fill(&mut bytes);
    bytes
}

/// Looks like a gzip member and does not compress: magic, then noise.
fn compressed(size: usize) -> Vec<u8> {
    let mut bytes = random(size);
    let magic = [0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3];
    let known = size.min(magic.len());
    bytes[..known].copy_from_slice(&magic[..known]);
    bytes
}
