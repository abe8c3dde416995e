//! The examples of SPEC.md, and a second reading of the wire written from SPEC.md by hand: this file knows neither
//! bincode nor the crate under test.

pub(crate) mod codec;

use std::path::{Path, PathBuf};

/// A field as SPEC.md annotates it: its bytes, its name, its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) bytes: Vec<u8>,
    pub(crate) name: String,
    pub(crate) value: String,
}

/// A `frame` block of SPEC.md.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fields: Vec<Field>,
}

/// Who sends a piece of the session of SPEC.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Daemon,
}

pub(crate) fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn spec_path() -> PathBuf {
    crate_folder().join("SPEC.md")
}

pub(crate) fn spec() -> String {
    std::fs::read_to_string(spec_path()).unwrap()
}

/// The lines of the fenced blocks whose info string starts with `word`, with the rest of the info string.
fn blocks(word: &str) -> Vec<(String, Vec<String>)> {
    let text = spec();
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let content: Vec<String> =
            lines.by_ref().take_while(|line| *line != "```").map(str::to_owned).collect();
        let (first, rest) = info.split_once(' ').unwrap_or((info, ""));
        if first == word {
            blocks.push((rest.to_owned(), content));
        }
    }
    blocks
}

fn hex_tokens(line: &str) -> Vec<u8> {
    line.split_whitespace().map(|token| u8::from_str_radix(token, 16).unwrap()).collect()
}

/// Every example of a frame, in the order of the document.
pub(crate) fn examples() -> Vec<Example> {
    blocks("frame")
        .into_iter()
        .map(|(name, lines)| {
            let mut fields = Vec::new();
            let mut pending = Vec::new();
            for line in lines {
                let Some((left, right)) = line.split_once(" = ") else {
                    pending.extend(hex_tokens(&line));
                    continue;
                };
                // The hex column is 49 wide; the name of the field follows it.
                let (hex, field) = left.split_at(49);
                pending.extend(hex_tokens(hex));
                let value = right.split_once(" — ").map_or(right, |(value, _remark)| value);
                fields.push(Field {
                    bytes: std::mem::take(&mut pending),
                    name: field.trim().to_owned(),
                    value: value.to_owned(),
                });
            }
            assert!(pending.is_empty(), "{name}: bytes without a field");
            let bytes = fields.iter().flat_map(|field| field.bytes.clone()).collect();
            Example { name, bytes, fields }
        })
        .collect()
}

/// The pieces of the session: who sends, the remark, the bytes (none at the end of the stream).
pub(crate) fn session() -> Vec<(Side, String, Vec<u8>)> {
    let mut pieces: Vec<(Side, String, Vec<u8>)> = Vec::new();
    for (_, lines) in blocks("session") {
        for line in lines {
            if let Some(remark) = line.strip_prefix("# ") {
                let (side, remark) = remark.split_once(": ").unwrap();
                let side = if side == "client" { Side::Client } else { Side::Daemon };
                pieces.push((side, remark.to_owned(), Vec::new()));
                continue;
            }
            let piece = pieces.last_mut().unwrap();
            let (letter, hex) = line.split_once(' ').unwrap();
            assert_eq!(letter == "C", piece.0 == Side::Client, "{line}");
            if hex != "eof" {
                piece.2.extend(hex_tokens(hex));
            }
        }
    }
    pieces
}

#[derive(Clone, Copy)]
enum Type {
    Byte,
    Bool,
    U16,
    U32,
    U64,
    OptionalU64,
    Text(usize),
    Parameters,
}

const KINDS: [(&str, &[(&str, Type)]); 15] = {
    use Type::{Bool, Byte, OptionalU64, Parameters, Text, U16, U32, U64};
    [
        (
            "Hello",
            &[
                ("version_min", U16),
                ("version_max", U16),
                ("features", U64),
                ("frame_bytes_max", U32),
                ("window", U32),
                ("client", Text(64)),
            ],
        ),
        (
            "Welcome",
            &[
                ("version", U16),
                ("features", U64),
                ("frame_bytes_max", U32),
                ("window", U32),
                ("body_bytes_max", U64),
                ("in_flight_max", U32),
                ("server", Text(64)),
            ],
        ),
        (
            "Work",
            &[
                ("operation", Text(64)),
                ("parameters", Parameters),
                ("sent_at", U64),
                ("deadline", OptionalU64),
                ("priority", Byte),
                ("body_total", OptionalU64),
            ],
        ),
        ("Data", &[]),
        ("Reply", &[("queue_time", U64), ("service_time", U64), ("load", Byte), ("body_total", OptionalU64)]),
        (
            "Failure",
            &[
                ("code", U16),
                ("message", Text(1024)),
                ("retry_after", OptionalU64),
                ("retry_safe", Bool),
                ("load", Byte),
            ],
        ),
        ("Cancel", &[]),
        ("Credit", &[("bytes", U64)]),
        ("Ping", &[]),
        ("Pong", &[]),
        ("Query", &[("subject", U16)]),
        ("Info", &[]),
        ("GoAway", &[("last_id", U64), ("reason", U16)]),
        ("Close", &[("opened_at", U64), ("closed_at", U64)]),
        (
            "Closed",
            &[
                ("requests", U64),
                ("failures", U64),
                ("bytes_in", U64),
                ("bytes_out", U64),
                ("queue_time", U64),
                ("service_time", U64),
            ],
        ),
    ]
};

/// Name, and the fields with their types in the words of SPEC.md, of the kind with this number (1 to 15).
pub(crate) fn layout(kind: u8) -> (&'static str, Vec<(String, String)>) {
    let (name, types) = KINDS[usize::from(kind) - 1];
    let in_words = |kind: &Type| match kind {
        Type::Byte => "byte".to_owned(),
        Type::Bool => "bool".to_owned(),
        Type::U16 => "u16".to_owned(),
        Type::U32 => "u32".to_owned(),
        Type::U64 => "u64".to_owned(),
        Type::OptionalU64 => "optional u64".to_owned(),
        Type::Text(bytes_max) => format!("text ≤ {}", grouped(*bytes_max)),
        Type::Parameters => "list ≤ 64 of (text ≤ 64, text ≤ 4,096)".to_owned(),
    };
    (name, types.iter().map(|(field, kind)| ((*field).to_owned(), in_words(kind))).collect())
}

fn grouped(number: usize) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", number / 1000, number % 1000) }
}

/// Reads bytes one field after the other and remembers which bytes each took.
struct Reader<'a> {
    bytes: &'a [u8],
    place: usize,
    taken: usize,
    fields: Vec<Field>,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, place: 0, taken: 0, fields: Vec::new() }
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        let left = &self.bytes[self.place..];
        let count = usize::try_from(count).ok().filter(|count| *count <= left.len());
        let count = count.ok_or("the bytes end too early")?;
        self.place += count;
        Ok(&left[..count])
    }

    fn little_endian(&mut self, width: u64) -> Result<u64, String> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn variable(&mut self, width_max: u64) -> Result<u64, String> {
        let width = match self.take(1)?[0] {
            byte @ 0..=250 => return Ok(u64::from(byte)),
            0xfb => 2,
            0xfc => 4,
            0xfd => 8,
            _ => return Err("reserved first byte of an integer".to_owned()),
        };
        if width > width_max {
            return Err(format!("an integer of {width} bytes where {width_max} are most"));
        }
        self.little_endian(width)
    }

    fn flag(&mut self) -> Result<bool, String> {
        match self.take(1)?[0] {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("neither 0 nor 1".to_owned()),
        }
    }

    fn text(&mut self, bytes_max: usize) -> Result<String, String> {
        let length = self.variable(8)?;
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if text.len() > bytes_max { Err("text too long".to_owned()) } else { Ok(quoted(text)) }
    }

    fn count(&mut self, count_max: u64) -> Result<u64, String> {
        let count = self.variable(8)?;
        if count > count_max { Err("list too long".to_owned()) } else { Ok(count) }
    }

    fn push(&mut self, name: impl Into<String>, value: impl ToString) {
        let bytes = self.bytes[self.taken..self.place].to_vec();
        self.taken = self.place;
        self.fields.push(Field { bytes, name: name.into(), value: value.to_string() });
    }

    fn field(&mut self, name: &str, kind: Type) -> Result<(), String> {
        let value = match kind {
            Type::Byte => self.little_endian(1)?.to_string(),
            Type::Bool => self.flag()?.to_string(),
            Type::U16 => self.variable(2)?.to_string(),
            Type::U32 => self.variable(4)?.to_string(),
            Type::U64 => self.variable(8)?.to_string(),
            Type::OptionalU64 if self.flag()? => format!("some {}", self.variable(8)?),
            Type::OptionalU64 => "none".to_owned(),
            Type::Text(bytes_max) => self.text(bytes_max)?,
            Type::Parameters => {
                let count = self.count(64)?;
                self.push("parameters count", count);
                for number in 1..=count {
                    let key = self.text(64)?;
                    self.push(format!("parameter {number} key"), key);
                    let value = self.text(4096)?;
                    self.push(format!("parameter {number} value"), value);
                }
                return Ok(());
            }
        };
        self.push(name, value);
        Ok(())
    }

    fn extensions(&mut self) -> Result<(), String> {
        let count = self.count(16)?;
        self.push("extensions count", count);
        for number in 1..=count {
            let extension = self.variable(2)?;
            self.push(format!("extension {number} number"), extension);
            let length = self.variable(8)?;
            let content = self.take(length)?;
            self.push(
                format!("extension {number} content"),
                if content.is_empty() { "empty".to_owned() } else { hex(content) },
            );
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// Reads a header of the kind with this number (1 to 15) from exactly `bytes`.
pub(crate) fn read_header(kind: u8, bytes: &[u8]) -> Result<Vec<Field>, String> {
    let (_, types) = KINDS[usize::from(kind) - 1];
    if bytes.is_empty() && matches!(kind, 4 | 7 | 9 | 10 | 12) {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(bytes);
    for (name, kind) in types {
        reader.field(name, *kind)?;
    }
    reader.extensions()?;
    if reader.place < bytes.len() { Err("bytes left over".to_owned()) } else { Ok(reader.fields) }
}

/// Reads a frame of a known kind at the start of `bytes`; gives the fields and how many bytes they took.
pub(crate) fn read_frame(bytes: &[u8]) -> Result<(Vec<Field>, usize), String> {
    let mut reader = Reader::new(bytes);
    let kind = u8::try_from(reader.little_endian(1)?).unwrap();
    let (name, _) = *KINDS.get(usize::from(kind).wrapping_sub(1)).ok_or("unknown kind")?;
    reader.push("kind", format!("{kind} {name}"));
    let mut number = |name, width| {
        let value = reader.little_endian(width)?;
        reader.push(name, value);
        Ok::<u64, String>(value)
    };
    number("flags", 1)?;
    let header_len = number("header_len", 2)?;
    let body_len = number("body_len", 4)?;
    number("id", 8)?;
    let header = reader.take(header_len)?;
    let body = reader.take(body_len)?;
    let mut fields = reader.fields;
    fields.extend(read_header(kind, header)?);
    if !body.is_empty() {
        let text = std::str::from_utf8(body).ok().filter(|text| !text.chars().any(char::is_control));
        let value = text.map_or_else(|| hex(body), quoted);
        fields.push(Field { bytes: body.to_vec(), name: "body".to_owned(), value });
    }
    Ok((fields, reader.place))
}
