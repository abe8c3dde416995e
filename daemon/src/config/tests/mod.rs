//! The configuration as a whole, with operations of no consequence.

mod layers;
mod problems;
mod values;

use std::time::Duration;

use tempfile::TempDir;
use windlass_actors::operation::{
    Arguments, Estimate, Input, JobContext, Limit, OperationError, Output, Parameter, ParameterKind,
    Resultant, Secrecy,
};

use super::*;

struct Fake(Declaration);

impl Operation for Fake {
    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn estimate(&self, _: &Arguments, _: u64) -> Result<Estimate, OperationError> {
        Err(OperationError::Internal("never asked".into()))
    }

    fn run(&self, _: &Arguments, _: &mut Input, _: &mut JobContext<'_>) -> Result<Output, OperationError> {
        Err(OperationError::Internal("never run".into()))
    }
}

fn declaration(name: &'static str, parameters: Vec<Parameter>, limits: Vec<Limit>) -> Declaration {
    Declaration {
        name,
        about: "does something",
        parameters,
        limits,
        result: Resultant::Text,
        secrecy: Secrecy::Open,
        pure: true,
        stretch_max: Duration::from_millis(10),
    }
}

fn known() -> Known<'static> {
    let level = Parameter {
        name: "level",
        kind: ParameterKind::Integer { min: -7, max: 22 },
        default: Some("3".into()),
        required: false,
        about: "how hard to try",
    };
    let unset = Parameter { name: "window-log", default: None, ..level.clone() };
    let memory_max = Limit {
        name: "memory_max",
        kind: ParameterKind::Size { min: 1 << 20, max: 1 << 30 },
        value: "64MiB".into(),
        about: "memory of one request",
    };
    let declared = vec![
        declaration("compress", vec![level, unset], vec![]),
        declaration("hash", vec![], vec![]),
        declaration("password-hash", vec![], vec![memory_max]),
        declaration("spin", vec![], vec![]),
    ];
    Known { declared, build: &|declaration| Arc::new(Fake(declaration)) }
}

const MACHINE: Machine = Machine { cores: NonZeroUsize::new(8).unwrap(), descriptors: 20_000 };

/// What is said on the three layers above the built-in defaults.
#[derive(Default)]
struct Said<'a> {
    file: &'a str,
    environment: &'a [(&'a str, &'a str)],
    flags: &'a [&'a str],
}

impl Said<'_> {
    fn load_on(&self, machine: &Machine) -> Result<Config, ConfigError> {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("windlass.toml");
        std::fs::write(&path, self.file).unwrap();
        let environment = self.environment.iter().map(|(name, text)| (name.into(), text.into()));
        let flags = self.flags.iter().map(|flag| (*flag).to_owned()).collect();
        Config::load(&Sources::new(Some(path), environment, flags), &known(), machine)
    }

    fn load(&self) -> Config {
        self.load_on(&MACHINE).unwrap_or_else(|error| panic!("{error}"))
    }

    fn problems(&self) -> Vec<Problem> {
        self.load_on(&MACHINE).map(|_| ()).unwrap_err().problems
    }
}

fn file(file: &str) -> Said<'_> {
    Said { file, ..Said::default() }
}

fn keys(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.key.as_str()).collect()
}
