//! Where results go, decided before anything is sent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::Arguments;
use super::input::Input;
use crate::catalogue::Operation;
use crate::exit::{Exit, Problem};

pub(super) enum Place {
    StandardOutput,
    /// Lines of text of all inputs, or the one binary result.
    File(PathBuf),
    Directory(Directory),
}

/// One file per input.
pub(super) struct Directory {
    path: PathBuf,
    naming: Naming,
}

/// How an output is called after its input.
enum Naming {
    Same,
    /// `compress` adds the extension of its algorithm.
    Adding(&'static str),
    /// `decompress` takes a known extension away.
    Removing,
}

const EXTENSIONS: [(&str, &str); 4] = [("zstd", "zst"), ("gzip", "gz"), ("brotli", "br"), ("lz4", "lz4")];

impl Place {
    pub(super) fn choose(
        arguments: &Arguments,
        operation: &Operation<'_>,
        inputs: &[Input],
        is_text: bool,
    ) -> Result<Self, Problem> {
        let usage = |message: String| Err(Problem::new(Exit::Usage, message));
        if let Some(path) = &arguments.output_dir {
            if !path.is_dir() {
                return usage(format!("--output-dir {} is not a directory; create it first", path.display()));
            }
            let naming = Naming::of(operation, &arguments.parameters);
            return Directory { path: path.clone(), naming }.checked(inputs).map(Self::Directory);
        }
        if inputs.len() > 1 && !is_text {
            return usage(format!(
                "{} results that are no text cannot share one output; use --output-dir",
                inputs.len()
            ));
        }
        Ok(arguments.output.clone().map_or(Self::StandardOutput, Self::File))
    }
}

impl Naming {
    fn of(operation: &Operation<'_>, parameters: &[(String, String)]) -> Self {
        match operation.name() {
            "compress" => {
                let given = parameters.iter().find(|(name, _)| name == "algorithm");
                let algorithm =
                    given.map(|(_, value)| value.as_str()).or_else(|| operation.default_of("algorithm"));
                let known = EXTENSIONS.iter().find(|(name, _)| Some(*name) == algorithm);
                known.map_or(Self::Same, |(_, extension)| Self::Adding(extension))
            }
            "decompress" => Self::Removing,
            _ => Self::Same,
        }
    }

    fn name(&self, input: &Input) -> OsString {
        let Input::Named(path) = input else { return OsString::from("stdin") };
        let mut name = path.file_name().unwrap_or(path.as_os_str()).to_owned();
        match self {
            Self::Same => name,
            Self::Adding(extension) => {
                name.push(".");
                name.push(extension);
                name
            }
            Self::Removing => {
                let path = Path::new(&name);
                let is_known =
                    |found: &std::ffi::OsStr| EXTENSIONS.iter().any(|(_, extension)| found == *extension);
                match (path.extension(), path.file_stem()) {
                    (Some(extension), Some(stem)) if is_known(extension) => stem.to_owned(),
                    _ => name,
                }
            }
        }
    }
}

impl Directory {
    pub(super) fn path_of(&self, input: &Input) -> PathBuf {
        self.path.join(self.naming.name(input))
    }

    /// No result may replace another, nor an input.
    fn checked(self, inputs: &[Input]) -> Result<Self, Problem> {
        let paths: Vec<_> = inputs.iter().map(|input| self.path_of(input)).collect();
        let mut seen = BTreeSet::new();
        if let Some(path) = paths.iter().find(|path| !seen.insert(*path)) {
            let message = format!("two inputs would both be written to {}", path.display());
            return Err(Problem::new(Exit::Usage, message));
        }
        let sources: BTreeSet<_> = inputs
            .iter()
            .filter_map(|input| match input {
                Input::Named(path) => fs::canonicalize(path).ok(),
                Input::Standard => None,
            })
            .collect();
        let replaced = |path: &&PathBuf| fs::canonicalize(path).is_ok_and(|path| sources.contains(&path));
        if let Some(path) = paths.iter().find(replaced) {
            let message =
                format!("the result would replace the input {}; choose another --output-dir", path.display());
            return Err(Problem::new(Exit::Usage, message));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Input {
        Input::Named(path.into())
    }

    #[test]
    fn outputs_are_called_after_their_inputs() {
        let compress = serde_json::json!({
            "name": "compress", "parameters": [{"name": "algorithm", "default": "zstd"}],
        });
        let naming = Naming::of(&Operation(&compress), &[]);
        assert_eq!(naming.name(&named("/a/text.txt")), "text.txt.zst");
        let gzip = [("algorithm".to_owned(), "gzip".to_owned())];
        assert_eq!(Naming::of(&Operation(&compress), &gzip).name(&named("x")), "x.gz");
        assert_eq!(Naming::Removing.name(&named("/a/text.txt.zst")), "text.txt");
        assert_eq!(Naming::Removing.name(&named("plain.txt")), "plain.txt");
        assert_eq!(Naming::Same.name(&Input::Standard), "stdin");
    }

    #[test]
    fn no_result_replaces_another_or_an_input() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        fs::write(&path, "x").unwrap();
        let into = || Directory { path: directory.path().to_owned(), naming: Naming::Same };
        assert!(into().checked(&[named("a/y"), named("b/y")]).is_err());
        assert!(into().checked(&[Input::Named(path)]).is_err());
        assert!(into().checked(&[named("a/y"), named("b/z")]).is_ok());
    }
}
