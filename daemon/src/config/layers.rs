//! Built-in defaults < file < environment < command line: who wins, and where each value came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use ::config::builder::DefaultState;
use ::config::{ConfigBuilder, Environment, Map, Source, Value, ValueKind};

use super::file::{FileLayer, kind_of, unknown};
use super::kind::quoted;
use super::problem::{Fault, Origin, Problem, nearest};
use super::schema::{Key, Schema};

/// What every variable of ours begins with. Two underscores, because a Kubernetes service called windlass sets
/// `WINDLASS_PORT` and the like.
const PREFIX: &str = "WINDLASS__";

/// What is read besides the built-in defaults. Kept, so that a reload reads the same places again.
#[derive(Clone, Debug)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<String>,
}

impl Sources {
    /// `environment` is the whole of [`std::env::vars_os`], of which the variables of Windlass are kept; `flags` are
    /// texts `SECTION.KEY=VALUE`, of which the last wins.
    pub fn new(
        file: Option<PathBuf>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        flags: Vec<String>,
    ) -> Self {
        let ours = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let mut environment: Vec<_> = environment.into_iter().filter(|(name, _)| ours(name)).collect();
        environment.sort();
        Self { file, environment, flags }
    }

    /// The file that is read, if any.
    pub fn file(&self) -> Option<&std::path::Path> {
        self.file.as_deref()
    }
}

/// A value with its type, and the layer that won.
#[derive(Clone, Debug)]
pub(super) struct Layered {
    pub(super) value: ValueKind,
    pub(super) origin: Origin,
}

/// The winning value of every key that has one.
pub(super) fn merge(
    schema: &Schema,
    sources: &Sources,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, Layered> {
    let mut builder = defaults(schema);
    if let Some(path) = &sources.file {
        builder = builder.add_source(FileLayer::read(path, schema, problems));
    }
    builder = builder.add_source(environment(schema, &sources.environment, problems));
    for (key, text) in flags(schema, &sources.flags, problems) {
        let value = Value::new(Some(&FLAG.to_owned()), text);
        builder = builder.set_override(&key.name, value).expect("keys of the schema are paths");
    }
    let merged = builder.build().expect("the layers are in memory, and their keys are paths");
    let tree = merged.collect().expect("the root is a table");
    schema.keys.iter().filter_map(|key| Some((key.name.clone(), layered(key, &tree)?))).collect()
}

// The names of the layers in a value's origin; a file's is its path behind its line.
const DEFAULT: &str = "default";
const FLAG: &str = "flag";
/// What [`Environment`] writes.
const VARIABLE: &str = "the environment";

/// A value of this origin, for a layer.
pub(super) fn value(origin: &Origin, kind: ValueKind) -> Value {
    let origin = match origin {
        Origin::File { path, line } => format!("{line} {path}"),
        _ => DEFAULT.to_owned(),
    };
    Value::new(Some(&origin), kind)
}

fn layered(key: &Key, tree: &Map<String, Value>) -> Option<Layered> {
    let mut words = key.name.split('.');
    let mut found = tree.get(words.next()?)?;
    for word in words {
        let ValueKind::Table(table) = &found.kind else { return None };
        found = table.get(word)?;
    }
    let text = || match &found.kind {
        ValueKind::String(text) => key.kind.typed(text),
        other => other.clone(),
    };
    let (value, origin) = match found.origin()? {
        DEFAULT => (found.kind.clone(), Origin::Default),
        VARIABLE => (text(), Origin::Variable(key.variable())),
        FLAG => (text(), Origin::Flag),
        file => {
            let (line, path) = file.split_once(' ')?;
            (found.kind.clone(), Origin::File { path: path.to_owned(), line: line.parse().ok()? })
        }
    };
    Some(Layered { value, origin })
}

fn defaults(schema: &Schema) -> ConfigBuilder<DefaultState> {
    let mut builder = ::config::Config::builder();
    for key in &schema.keys {
        let Some(default) = &key.default else { continue };
        let value = value(&Origin::Default, default_kind(default));
        builder = builder.set_default(&key.name, value).expect("keys of the schema are paths");
    }
    builder
}

/// A default of the schema.
pub(super) fn default_kind(toml: &str) -> ValueKind {
    kind_of(toml::de::DeValue::parse(toml).expect("defaults of the schema are TOML").get_ref())
}

/// The layer of the variables that name a key. The library lower-cases a name and cannot know which `_` stands for
/// `-`, so it is given the key itself behind the prefix.
fn environment(
    schema: &Schema,
    variables: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> Environment {
    let mut known = Map::new();
    for (name, text) in variables {
        let name = name.to_string_lossy().into_owned();
        let Some(text) = text.to_str() else {
            let fault = Fault::new("the value is not UTF-8");
            problems.push(Problem::new(name, None, Origin::Nowhere, fault));
            continue;
        };
        match schema.keys.iter().find(|key| key.variable() == name) {
            Some(key) => {
                let path = format!("{PREFIX}{}", key.name.replace('.', "__"));
                known.insert(path, text.to_owned());
            }
            None => problems.push(unknown_variable(name, text, schema)),
        }
    }
    Environment::with_prefix("WINDLASS").separator("__").source(Some(known))
}

fn unknown_variable(name: String, text: &str, schema: &Schema) -> Problem {
    let variables: Vec<String> = schema.keys.iter().map(Key::variable).collect();
    let fault = Fault::new("this variable names no key");
    let fault = match nearest(&name, variables.iter().map(String::as_str)) {
        Some(near) => fault.hint(format!("did you mean {near}?")),
        None => fault.hint("write WINDLASS__SECTION__KEY; _ stands for - in names"),
    };
    Problem::new(name, Some(quoted(text)), Origin::Nowhere, fault)
}

/// The keys and texts of `--set`.
fn flags<'a>(
    schema: &'a Schema,
    flags: &'a [String],
    problems: &mut Vec<Problem>,
) -> Vec<(&'a Key, &'a str)> {
    let mut known = Vec::new();
    for flag in flags {
        let Some((name, text)) = flag.split_once('=') else {
            let fault = Fault::new("has no value").hint("write --set SECTION.KEY=VALUE");
            problems.push(Problem::new(flag, None, Origin::Flag, fault));
            continue;
        };
        match schema.find(name.trim()) {
            Some(key) => known.push((key, text)),
            None => {
                let fault = unknown(name.trim(), schema);
                problems.push(Problem::new(name.trim(), Some(quoted(text)), Origin::Flag, fault));
            }
        }
    }
    known
}
