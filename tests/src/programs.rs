//! The programs under test, and the tools they are compared with.

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use crate::repository;

/// A program of the workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// The daemon.
    Windlassd,
    /// The daemon with the operations of the cargo feature `faults`.
    WindlassdFaults,
    /// The client program.
    Windlass,
}

impl Program {
    /// Where it is, built from the present sources if it was not.
    pub fn path(self) -> &'static Path {
        static PLAIN: OnceLock<PathBuf> = OnceLock::new();
        static FAULTS: OnceLock<PathBuf> = OnceLock::new();
        match self {
            Self::Windlassd => {
                PLAIN.get_or_init(|| build("windlassd", &["--bin", "windlassd", "--bin", "windlass"]))
            }
            Self::Windlass => {
                static CLIENT: OnceLock<PathBuf> = OnceLock::new();
                CLIENT.get_or_init(|| Self::Windlassd.path().with_file_name("windlass"))
            }
            Self::WindlassdFaults => FAULTS.get_or_init(|| {
                build("windlassd-faults", &["--bin", "windlassd-faults", "--features", "faults"])
            }),
        }
    }

    /// A command that runs it.
    pub fn command(self) -> Command {
        Command::new(self.path())
    }
}

/// Cargo knows what is up to date; the same profile and directory as the tests' own are used.
fn build(name: &str, what: &[&str]) -> PathBuf {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["build", "--quiet", "--package", "windlass-daemon"]).args(what).current_dir(repository());
    let test = std::env::current_exe().unwrap();
    // target/PROFILE/deps/suites-…
    let profile = test.ancestors().nth(2).unwrap();
    if profile.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    let status = command.env("CARGO_TARGET_DIR", profile.parent().unwrap()).status().unwrap();
    assert!(status.success(), "cannot build {name}");
    profile.join(name)
}

/// What a program that has ended left behind.
#[derive(Debug)]
pub struct Ran {
    /// Its exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error, as text.
    pub stderr: String,
}

impl Ran {
    /// Standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// The same, if the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self
    }
}

/// Runs a command to its end with `input` on standard input.
#[track_caller]
pub fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || {
        // A program that does not read all of it has its reasons.
        let _ = stdin.write_all(&input);
    });
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ran { status: status.code(), stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
}

/// `windlass --address ADDRESS ARGUMENTS…` with `input` on standard input.
#[track_caller]
pub fn windlass(address: &str, arguments: &[&str], input: &[u8]) -> Ran {
    let mut command = Program::Windlass.command();
    command.env_remove("WINDLASS_ADDRESS").args(["--address", address]).args(arguments);
    run(&mut command, input)
}

/// A tool that results are compared with, if this machine has it. With `WINDLASS_TEST_TOOLS=all`, as in CI, a missing
/// one fails the test instead of making it compare less.
#[track_caller]
pub fn tool(name: &str) -> Option<Command> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(name).is_file()));
    assert!(found || !every_tool_is_needed(), "{NEEDED}, but there is no {name}; install it");
    found.then(|| Command::new(name))
}

const NEEDED: &str = "WINDLASS_TEST_TOOLS=all";

fn every_tool_is_needed() -> bool {
    std::env::var_os("WINDLASS_TEST_TOOLS").is_some_and(|tools| tools == "all")
}

/// A Python 3 interpreter, if there is one.
#[track_caller]
pub fn python() -> Option<Command> {
    tool("python3")
}

/// A Python 3 interpreter that has this module, if there is one.
#[track_caller]
pub fn python_with(module: &str) -> Option<Command> {
    let found = run(python()?.args(["-c", &format!("import {module}")]), b"").status == Some(0);
    assert!(found || !every_tool_is_needed(), "{NEEDED}, but python3 has no module {module}; install it");
    found.then(python)?
}
