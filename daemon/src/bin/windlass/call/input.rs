//! One input: a named file or standard input, read whole and never changed.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Problem};

pub(crate) enum Input {
    Standard,
    Named(PathBuf),
}

impl Input {
    /// The inputs in the order of the command line.
    pub(crate) fn all(files: &[PathBuf]) -> Vec<Self> {
        if files.is_empty() {
            return vec![Self::Standard];
        }
        let input =
            |path: &PathBuf| if path == Path::new("-") { Self::Standard } else { Self::Named(path.clone()) };
        files.iter().map(input).collect()
    }

    /// For messages.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Standard => "standard input".to_owned(),
            Self::Named(path) => path.display().to_string(),
        }
    }

    /// Reads at most `limit` bytes; a file known to be larger is not read at all.
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>, Problem> {
        let cannot =
            |error: io::Error| Problem::new(Exit::BadInput, format!("reading {}: {error}", self.shown()));
        let (mut source, length): (Box<dyn Read>, u64) = match self {
            Self::Standard => (Box::new(io::stdin().lock()), 0),
            Self::Named(path) => {
                let file = File::open(path).map_err(cannot)?;
                let metadata = file.metadata().map_err(cannot)?;
                (Box::new(file), if metadata.is_file() { metadata.len() } else { 0 })
            }
        };
        let mut body = Vec::new();
        if length <= limit {
            body.reserve_exact(usize::try_from(length).unwrap_or(0));
            source.by_ref().take(limit.saturating_add(1)).read_to_end(&mut body).map_err(cannot)?;
        }
        let found = length.max(body.len() as u64);
        if found > limit {
            let message = format!(
                "{} has {}{found} bytes, more than the {limit} that the daemon takes; \
                 raise limits.body in its configuration or split the input",
                self.shown(),
                if length > limit { "" } else { "at least " },
            );
            return Err(Problem::new(Exit::BadInput, message));
        }
        Ok(body)
    }

    /// A textual result as a line: alone for standard input, as `sha256sum` prints it for a file.
    pub(crate) fn line(&self, result: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(result.len() + 64);
        match self {
            Self::Standard => line.extend_from_slice(result),
            Self::Named(path) => {
                let name = path.as_os_str().as_bytes();
                let escape = name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
                if escape {
                    line.push(b'\\');
                }
                line.extend_from_slice(result);
                line.extend_from_slice(b"  ");
                for byte in name {
                    match byte {
                        b'\\' => line.extend_from_slice(b"\\\\"),
                        b'\n' => line.extend_from_slice(b"\\n"),
                        b'\r' => line.extend_from_slice(b"\\r"),
                        other => line.push(*other),
                    }
                }
            }
        }
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_result_prints_as_sha256sum_does() {
        let line = |name: &str| String::from_utf8(Input::Named(name.into()).line(b"abc")).unwrap();
        assert_eq!(line("file"), "abc  file\n");
        assert_eq!(line("a\nb\\c"), "\\abc  a\\nb\\\\c\n");
        assert_eq!(Input::Standard.line(b"abc"), b"abc\n");
    }

    #[test]
    fn input_is_read_as_it_is_and_not_beyond_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("input");
        std::fs::write(&path, b" text \n\n").unwrap();
        let input = Input::Named(path);
        assert_eq!(input.read(8).unwrap(), b" text \n\n");
        assert_eq!(input.read(7).unwrap_err().exit, Exit::BadInput);
        assert_eq!(Input::Named("/dev/zero".into()).read(7).unwrap_err().exit, Exit::BadInput);
        assert_eq!(Input::Named(directory.path().join("none")).read(7).unwrap_err().exit, Exit::BadInput);
    }
}
