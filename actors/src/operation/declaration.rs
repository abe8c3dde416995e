//! What an operation says of itself, as data: validation, help, the catalogue and the README table are made from it.

use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use thiserror::Error;

use crate::units::{UnitError, format_duration, format_size, parse_duration, parse_size};

use super::{Arguments, Value};

/// An operation, described.
#[derive(Clone, Debug)]
pub struct Declaration {
    /// Name on the wire: lower-case words joined by `-`.
    pub name: &'static str,
    /// One sentence without a full stop.
    pub about: &'static str,
    /// The parameters, in the order in which they are shown.
    pub parameters: Vec<Parameter>,
    /// Limits that an operator may set in `[operations.NAME]` and a request may not.
    pub limits: Vec<Limit>,
    /// What comes back.
    pub result: Resultant,
    /// Whether the input is a secret: then it is never logged, cached or coalesced, and wiped after use.
    pub secrecy: Secrecy,
    /// Whether the same request always has the same effect as asking once, so that it may be repeated after its
    /// outcome was lost.
    pub pure: bool,
    /// Longest time on the CPU between two looks at the stop flag.
    pub stretch_max: Duration,
}

/// What kind of bytes an operation returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resultant {
    /// A line of text, shown to people as it is.
    Text,
    /// Bytes for a file.
    Binary,
    /// A parameter decides: text unless it has this value.
    TextUnless {
        /// Name of the parameter.
        parameter: &'static str,
        /// Its value for binary output.
        value: &'static str,
    },
}

impl Resultant {
    /// Whether the result of a request with these arguments is a line of text.
    pub fn is_text(&self, arguments: &Arguments) -> bool {
        match *self {
            Self::Text => true,
            Self::Binary => false,
            Self::TextUnless { parameter, value } => arguments.choice(parameter) != Some(value),
        }
    }
}

/// Whether an input may be shared, cached or shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrecy {
    /// Ordinary data.
    Open,
    /// A password or key.
    Secret,
}

/// A parameter of a request.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name on the wire.
    pub name: &'static str,
    /// Type and range.
    pub kind: ParameterKind,
    /// Taken when the request does not say; `None` leaves the parameter out or, where `required`, refuses.
    pub default: Option<String>,
    /// Whether a request must say it.
    pub required: bool,
    /// One sentence without a full stop.
    pub about: &'static str,
}

/// A limit of an operation that only the operator sets.
#[derive(Clone, Debug)]
pub struct Limit {
    /// Key in `[operations.NAME]`.
    pub name: &'static str,
    /// Type and range.
    pub kind: ParameterKind,
    /// The value in force, as text; the declaration states the default.
    pub value: String,
    /// One sentence without a full stop.
    pub about: &'static str,
}

/// Type and range of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number, both ends included.
    Integer {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// An integer and a unit of time, both ends included.
    Duration {
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
    /// An integer and a unit of size, both ends included.
    Size {
        /// Smallest, bytes.
        min: u64,
        /// Largest, bytes.
        max: u64,
    },
    /// Free text.
    Text {
        /// Longest, bytes.
        bytes_max: usize,
    },
}

/// An operator's setting that an operation does not take.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingError {
    /// No such key.
    #[error("not a setting of operation '{operation}'; its settings are {known}")]
    Unknown {
        /// The operation.
        operation: &'static str,
        /// What it has.
        known: String,
    },
    /// The key exists, the value does not fit.
    #[error("{0}")]
    Value(String),
}

impl ParameterKind {
    /// Reads a value.
    ///
    /// # Errors
    ///
    /// What was found and what is allowed, as the end of a sentence that names the parameter.
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let unit = |error: UnitError| error.to_string();
        let outside = || format!("'{}' is outside {}", text.escape_debug(), self.range());
        match *self {
            Self::Choice(words) => {
                words.iter().find(|word| **word == text).map(|word| Value::Choice(word)).ok_or_else(|| {
                    let found: String = text.chars().take(64).collect();
                    format!("'{}' is not one of {}", found.escape_debug(), words.join(", "))
                })
            }
            Self::Integer { min, max } => match text.parse::<i64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(Value::Integer(number)),
                Ok(_) => Err(outside()),
                Err(_) => {
                    let found: String = text.chars().take(64).collect();
                    Err(format!("'{}' is not a whole number in {}", found.escape_debug(), self.range()))
                }
            },
            Self::Duration { min, max } => match parse_duration(text).map_err(unit)? {
                duration if (min..=max).contains(&duration) => Ok(Value::Duration(duration)),
                _ => Err(outside()),
            },
            Self::Size { min, max } => match parse_size(text).map_err(unit)? {
                size if (min..=max).contains(&size) => Ok(Value::Size(size)),
                _ => Err(outside()),
            },
            Self::Text { bytes_max } if text.len() > bytes_max => {
                Err(format!("{} bytes are more than the {bytes_max} allowed", text.len()))
            }
            Self::Text { .. } => Ok(Value::Text(text.into())),
        }
    }

    /// The allowed values, for people.
    pub fn range(&self) -> String {
        match self {
            Self::Choice(words) => words.join(", "),
            Self::Integer { min, max } => format!("{min} to {max}"),
            Self::Duration { min, max } => format!("{} to {}", format_duration(*min), format_duration(*max)),
            Self::Size { min, max } => format!("{} to {}", format_size(*min), format_size(*max)),
            Self::Text { bytes_max } => format!("text of at most {bytes_max} bytes"),
        }
    }

    /// The type's name in the catalogue.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Choice(_) => "choice",
            Self::Integer { .. } => "integer",
            Self::Duration { .. } => "duration",
            Self::Size { .. } => "size",
            Self::Text { .. } => "text",
        }
    }

    /// Lowers the upper end of the range to a value of the same type.
    fn lower_max(&mut self, to: &Value) {
        match (self, to) {
            (Self::Integer { max, .. }, Value::Integer(value)) => *max = *value,
            (Self::Duration { max, .. }, Value::Duration(value)) => *max = *value,
            (Self::Size { max, .. }, Value::Size(value)) => *max = *value,
            _ => {}
        }
    }

    /// The type and the allowed values, for programs. Times and sizes are written as they are read.
    fn describe(&self) -> Map<String, Json> {
        let range = match self {
            Self::Choice(words) => json!({ "choices": words }),
            Self::Integer { min, max } => json!({ "min": min, "max": max }),
            Self::Duration { min, max } => {
                json!({ "min": format_duration(*min), "max": format_duration(*max) })
            }
            Self::Size { min, max } => json!({ "min": format_size(*min), "max": format_size(*max) }),
            Self::Text { bytes_max } => json!({ "bytes_max": bytes_max }),
        };
        let mut described = Map::new();
        described.insert("type".to_owned(), self.type_name().into());
        described.insert("range".to_owned(), self.range().into());
        if let Json::Object(range) = range {
            described.extend(range);
        }
        described
    }

    fn has_max(&self) -> bool {
        matches!(self, Self::Integer { .. } | Self::Duration { .. } | Self::Size { .. })
    }
}

impl Declaration {
    /// The value of a limit, as it now stands.
    ///
    /// # Panics
    ///
    /// When the operation has not declared a limit of that name, which every test of the operation would show.
    pub fn limit(&self, name: &str) -> Value {
        let limit =
            self.limits.iter().find(|limit| limit.name == name).expect("the operation declares its limits");
        limit.kind.parse(&limit.value).expect("limits are checked when they are set")
    }

    /// The settings that [`Declaration::set`] takes, with what they do: `PARAMETER` (another default),
    /// `PARAMETER_max` (a lower end of the range) and the limits. Words are joined by `_`, as in all configuration.
    pub fn settings(&self) -> Vec<(String, String)> {
        let key = |name: &str| name.replace('-', "_");
        let defaults = self.parameters.iter().filter(|parameter| !parameter.required).map(|parameter| {
            (key(parameter.name), format!("default of the parameter; {}", parameter.kind.range()))
        });
        let maxima = self.parameters.iter().filter(|parameter| parameter.kind.has_max()).map(|parameter| {
            (
                format!("{}_max", key(parameter.name)),
                format!("most a request may ask; {}", parameter.kind.range()),
            )
        });
        let limits = self
            .limits
            .iter()
            .map(|limit| (key(limit.name), format!("{}; {}", limit.about, limit.kind.range())));
        defaults.chain(maxima).chain(limits).collect()
    }

    /// Applies one setting of `[operations.NAME]`.
    ///
    /// # Errors
    ///
    /// When there is no such setting or the value does not fit it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SettingError> {
        let is = |name: &str| name.replace('-', "_") == key;
        if let Some(limit) = self.limits.iter_mut().find(|limit| is(limit.name)) {
            limit.kind.parse(value).map_err(SettingError::Value)?;
            limit.value = value.to_owned();
            return Ok(());
        }
        if let Some(parameter) =
            self.parameters.iter_mut().find(|parameter| is(parameter.name) && !parameter.required)
        {
            parameter.kind.parse(value).map_err(SettingError::Value)?;
            parameter.default = Some(value.to_owned());
            return Ok(());
        }
        let lowered = key.strip_suffix("_max").and_then(|name| {
            self.parameters
                .iter_mut()
                .find(|parameter| parameter.name.replace('-', "_") == name && parameter.kind.has_max())
        });
        if let Some(parameter) = lowered {
            let max = parameter.kind.parse(value).map_err(SettingError::Value)?;
            parameter.kind.lower_max(&max);
            return Ok(());
        }
        let known = self.settings().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(SettingError::Unknown { operation: self.name, known })
    }

    /// The declaration for programs: an entry of the catalogue.
    pub fn describe(&self) -> Json {
        let with = |kind: &ParameterKind, more: Json| {
            let mut described = kind.describe();
            if let Json::Object(more) = more {
                described.extend(more);
            }
            Json::Object(described)
        };
        let parameters = self.parameters.iter().map(|parameter| {
            let more = json!({
                "name": parameter.name,
                "default": parameter.default,
                "required": parameter.required,
                "about": parameter.about,
            });
            with(&parameter.kind, more)
        });
        let limits = self.limits.iter().map(|limit| {
            with(&limit.kind, json!({ "name": limit.name, "value": limit.value, "about": limit.about }))
        });
        let result = match self.result {
            Resultant::Text => json!("text"),
            Resultant::Binary => json!("binary"),
            Resultant::TextUnless { parameter, value } => {
                json!({ "text_unless": { "parameter": parameter, "value": value } })
            }
        };
        json!({
            "name": self.name,
            "about": self.about,
            "parameters": parameters.collect::<Vec<_>>(),
            "limits": limits.collect::<Vec<_>>(),
            "result": result,
            "pure": self.pure,
            "secret": self.secrecy == Secrecy::Secret,
            "stretch_max_ms": u64::try_from(self.stretch_max.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// Whether every default lies in its range, which lowering a maximum may have broken.
    ///
    /// # Errors
    ///
    /// The parameter whose default is outside.
    pub fn check(&self) -> Result<(), SettingError> {
        self.parameters.iter().try_for_each(|parameter| match &parameter.default {
            Some(default) => parameter.kind.parse(default).map(drop).map_err(|reason| {
                SettingError::Value(format!(
                    "the default of parameter '{}' does not hold: {reason}",
                    parameter.name
                ))
            }),
            None => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration() -> Declaration {
        Declaration {
            name: "fold",
            about: "folds the input",
            parameters: vec![
                Parameter {
                    name: "times",
                    kind: ParameterKind::Integer { min: 1, max: 7 },
                    default: Some("2".to_owned()),
                    required: false,
                    about: "how often",
                },
                Parameter {
                    name: "paper",
                    kind: ParameterKind::Choice(&["thin", "thick"]),
                    default: None,
                    required: true,
                    about: "what is folded",
                },
            ],
            limits: vec![Limit {
                name: "sheet_max",
                kind: ParameterKind::Size { min: 1, max: 1 << 30 },
                value: "64MiB".to_owned(),
                about: "largest sheet",
            }],
            result: Resultant::TextUnless { parameter: "paper", value: "thick" },
            secrecy: Secrecy::Secret,
            pure: true,
            stretch_max: Duration::from_millis(10),
        }
    }

    #[test]
    fn a_description_says_all_that_a_program_needs() {
        assert_eq!(
            declaration().describe(),
            json!({
                "name": "fold",
                "about": "folds the input",
                "parameters": [
                    {
                        "name": "times", "type": "integer", "range": "1 to 7", "min": 1, "max": 7,
                        "default": "2", "required": false, "about": "how often",
                    },
                    {
                        "name": "paper", "type": "choice", "range": "thin, thick", "choices": ["thin", "thick"],
                        "default": null, "required": true, "about": "what is folded",
                    },
                ],
                "limits": [{
                    "name": "sheet_max", "type": "size", "range": "1B to 1GiB", "min": "1B", "max": "1GiB",
                    "value": "64MiB", "about": "largest sheet",
                }],
                "result": { "text_unless": { "parameter": "paper", "value": "thick" } },
                "pure": true,
                "secret": true,
                "stretch_max_ms": 10,
            })
        );
    }

    #[test]
    fn a_lowered_maximum_is_described_and_checked_against_the_default() {
        let mut declaration = declaration();
        declaration.set("times_max", "1").unwrap();
        assert_eq!(declaration.describe()["parameters"][0]["max"], 1);
        assert!(declaration.check().is_err());
        declaration.set("times", "1").unwrap();
        assert_eq!(declaration.check(), Ok(()));
    }
}
