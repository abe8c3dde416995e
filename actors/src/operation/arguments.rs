//! The values that a request gives to the parameters of an operation, checked once.

use std::time::Duration;

use thiserror::Error;

use super::Declaration;

/// A value of a parameter or limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One of the declared words.
    Choice(&'static str),
    /// A whole number.
    Integer(i64),
    /// A time.
    Duration(Duration),
    /// A size, bytes.
    Size(u64),
    /// Free text.
    Text(Box<str>),
}

/// Values that lie in the declared ranges, defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(Vec<(&'static str, Value)>);

/// Parameters that are not what the operation declares.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ArgumentError {
    /// No such parameter.
    #[error("operation '{operation}' has no parameter '{name}'; its parameters are {known}")]
    Unknown {
        /// The operation.
        operation: &'static str,
        /// What was given.
        name: String,
        /// What it has.
        known: String,
    },
    /// Given more than once.
    #[error("parameter '{name}' is given more than once")]
    Doubled {
        /// The parameter.
        name: &'static str,
    },
    /// Not given, and without a default.
    #[error("parameter '{name}' of operation '{operation}' is missing; it takes {range}")]
    Missing {
        /// The operation.
        operation: &'static str,
        /// The parameter.
        name: &'static str,
        /// What it takes.
        range: String,
    },
    /// Not in its range.
    #[error("parameter '{name}': {reason}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What was found and what is allowed.
        reason: String,
    },
}

impl Arguments {
    /// Checks what a request gives against what the operation declares and fills in the defaults.
    ///
    /// # Errors
    ///
    /// The first parameter that is unknown, doubled, missing or out of its range.
    pub fn check(declaration: &Declaration, given: &[(&str, &str)]) -> Result<Self, ArgumentError> {
        let n_defaults =
            declaration.parameters.iter().filter(|parameter| parameter.default.is_some()).count();
        // Exactly, and so nothing at all where nothing is given and nothing is filled in.
        let mut values = Vec::with_capacity((given.len() + n_defaults).min(declaration.parameters.len()));
        for (name, text) in given {
            let parameter =
                declaration.parameters.iter().find(|parameter| parameter.name == *name).ok_or_else(|| {
                    let known: Vec<_> =
                        declaration.parameters.iter().map(|parameter| parameter.name).collect();
                    ArgumentError::Unknown {
                        operation: declaration.name,
                        name: name.escape_debug().to_string(),
                        known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
                    }
                })?;
            if values.iter().any(|(seen, _)| *seen == parameter.name) {
                return Err(ArgumentError::Doubled { name: parameter.name });
            }
            let value = parameter
                .kind
                .parse(text)
                .map_err(|reason| ArgumentError::Value { name: parameter.name, reason })?;
            values.push((parameter.name, value));
        }
        for parameter in &declaration.parameters {
            if values.iter().any(|(seen, _)| *seen == parameter.name) {
                continue;
            }
            match &parameter.default {
                Some(default) => {
                    let value =
                        parameter.kind.parse(default).expect("defaults are checked when they are set");
                    values.push((parameter.name, value));
                }
                None if parameter.required => {
                    return Err(ArgumentError::Missing {
                        operation: declaration.name,
                        name: parameter.name,
                        range: parameter.kind.range(),
                    });
                }
                None => {}
            }
        }
        Ok(Self(values))
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(seen, _)| *seen == name).map(|(_, value)| value)
    }

    /// The word chosen, or `None` where the parameter is absent or of another type.
    pub fn choice(&self, name: &str) -> Option<&'static str> {
        match self.get(name)? {
            Value::Choice(word) => Some(word),
            _ => None,
        }
    }

    /// The number given, or `None` where the parameter is absent or of another type.
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Integer(number) => Some(*number),
            _ => None,
        }
    }

    /// The time given, or `None` where the parameter is absent or of another type.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        match self.get(name)? {
            Value::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    /// The size given in bytes, or `None` where the parameter is absent or of another type.
    pub fn size(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Size(bytes) => Some(*bytes),
            _ => None,
        }
    }

    /// The text given, or `None` where the parameter is absent or of another type.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
