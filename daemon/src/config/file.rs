//! What a file may say: TOML with known keys, each value with the line it stands on.

use std::path::Path;

use ::config::{ConfigError as LayerError, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::problem::{Fault, Origin, Problem};
use super::schema::{Key, Schema};
use super::{layers, problem};

/// Largest file that is read; the reference file, with all its comments, has a tenth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The known keys of one TOML text, as a layer.
#[derive(Clone, Debug, Default)]
pub(super) struct FileLayer {
    values: Map<String, Value>,
}

impl Source for FileLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, LayerError> {
        Ok(self.values.clone())
    }
}

impl FileLayer {
    /// Reads a file. What is wrong with it goes to `problems`; what is right with it is in the layer.
    pub(super) fn read(path: &Path, schema: &Schema, problems: &mut Vec<Problem>) -> Self {
        let name = path.display().to_string();
        let result = contents(path).and_then(|bytes| {
            String::from_utf8(bytes).map_err(|error| {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
                Fault::new(format!("line {line} is not UTF-8")).hint("save the file as UTF-8 text")
            })
        });
        match result {
            Ok(text) => Self::parse(&name, &text, schema, problems),
            Err(fault) => {
                problems.push(Problem::new(name, None, Origin::Nowhere, fault));
                Self::default()
            }
        }
    }

    /// Reads the text of a file of this name.
    pub(super) fn parse(name: &str, text: &str, schema: &Schema, problems: &mut Vec<Problem>) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        if errors.is_empty() {
            let mut walk = Walk { name, text, schema, problems: Vec::new(), layer: Self::default() };
            walk.table("", table.get_ref());
            // The parser hands out the keys by name; people read from the top.
            walk.problems.sort_by_key(|(line, _)| *line);
            problems.extend(walk.problems.into_iter().map(|(_, problem)| problem));
            return walk.layer;
        }
        problems.extend(errors.iter().map(|error| {
            let place = error.span().map_or_else(String::new, |span| {
                let (line, column) = position(text, span.start);
                format!("line {line}, column {column}: ")
            });
            let fault = Fault::new(format!("{place}not TOML: {}", error.message().replace('\n', ", ")));
            Problem::new(name, None, Origin::Nowhere, fault)
        }));
        Self::default()
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, Fault> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| {
        Fault::new(format!("cannot be read: {error}")).hint(match error.kind() {
            std::io::ErrorKind::NotFound => "name an existing file with --config",
            std::io::ErrorKind::PermissionDenied => "let the user that windlassd runs as read it",
            _ => "name a regular file with --config",
        })
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Fault::new(format!("is larger than the {FILE_BYTES_MAX} bytes that are read of a file")));
    }
    Ok(bytes)
}

/// Line and column of a byte, both from 1.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

struct Walk<'a> {
    name: &'a str,
    text: &'a str,
    schema: &'a Schema,
    /// With the line of each.
    problems: Vec<(usize, Problem)>,
    layer: FileLayer,
}

impl Walk<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (word, value) in table {
            let key = if prefix.is_empty() {
                word.get_ref().to_string()
            } else {
                format!("{prefix}.{}", word.get_ref())
            };
            let (line, _) = position(self.text, word.span().start);
            let origin = Origin::File { path: self.name.to_owned(), line };
            let value = value.get_ref();
            match value {
                // Two tables would be merged; one in the place of a value is refused before.
                DeValue::Table(_) if self.schema.find(&key).is_some() => {
                    let range = self.schema.find(&key).map(|known| known.kind.range()).unwrap_or_default();
                    let fault = Fault::new(format!("is a table, not {range}"));
                    self.problems.push((line, Problem::new(key, None, origin, fault)));
                }
                _ if self.schema.find(&key).is_some() => {
                    self.layer.values.insert(key, layers::value(&origin, kind_of(value)));
                }
                DeValue::Table(inner) if self.schema.is_section(&key) => self.table(&key, inner),
                _ if self.schema.is_section(&key) => {
                    let fault = Fault::new("is a section, not a value").hint(format!("write [{key}]"));
                    let found = super::kind::toml_text(&kind_of(value));
                    self.problems.push((line, Problem::new(key, Some(found), origin, fault)));
                }
                _ => {
                    let found = (!value.is_table()).then(|| super::kind::toml_text(&kind_of(value)));
                    let fault = unknown(&key, self.schema);
                    self.problems.push((line, Problem::new(key, found, origin, fault)));
                }
            }
        }
    }
}

/// What is said of a key that does not exist.
pub(super) fn unknown(key: &str, schema: &Schema) -> Fault {
    let fault = Fault::new("there is no such key");
    if let Some((_, here)) = super::schema::ELSEWHERE.iter().find(|(there, _)| *there == key) {
        return fault.hint(format!("it is called {here} here"));
    }
    let word = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let sections: Vec<String> = schema.keys.iter().map(|known| known.parts().0.to_owned()).collect();
    let (section, _) = key.rsplit_once('.').unwrap_or((key, ""));
    if !schema.is_section(section) {
        return match problem::nearest(section, sections.iter().map(String::as_str)) {
            Some(near) => fault.hint(format!("did you mean the section [{near}]?")),
            None => fault.hint(format!("the sections are {}", section_names())),
        };
    }
    if let Some(known) = schema.keys.iter().find(|known| word(&known.name) == word(key)) {
        return fault.hint(format!("did you mean {}?", known.name));
    }
    let below = |known: &'_ Key| {
        let rest = known.name.strip_prefix(section)?.strip_prefix('.')?;
        rest.split('.').next().map(str::to_owned)
    };
    let mut siblings: Vec<String> = schema.keys.iter().filter_map(below).collect();
    siblings.dedup();
    match problem::nearest(&word(key), siblings.iter().map(String::as_str)) {
        Some(near) => fault.hint(format!("did you mean {section}.{near}?")),
        None => fault.hint(format!("the keys of [{section}] are {}", siblings.join(", "))),
    }
}

fn section_names() -> String {
    super::schema::SECTIONS.map(|(name, _)| name).join(", ")
}

/// A TOML value as the layers carry it. Numbers that no key can hold stay texts, which every number refuses.
pub(super) fn kind_of(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => {
            match i128::from_str_radix(&number.as_str().replace('_', ""), number.radix()) {
                Ok(number) => i64::try_from(number).map_or(ValueKind::I128(number), ValueKind::I64),
                Err(_) => ValueKind::String(number.as_str().to_owned()),
            }
        }
        DeValue::Float(number) => match number.as_str().replace('_', "").parse() {
            Ok(number) => ValueKind::Float(number),
            Err(_) => ValueKind::String(number.as_str().to_owned()),
        },
        DeValue::Boolean(on) => ValueKind::Boolean(*on),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| Value::new(None, kind_of(item.get_ref())));
            ValueKind::Array(items.collect())
        }
        DeValue::Table(_) => ValueKind::Table(Map::new()),
    }
}
