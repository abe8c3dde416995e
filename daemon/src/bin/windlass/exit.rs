//! How the program ends, and the one line that says why.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use windlass_protocol::client::{CallError, CodeClass, FailureCode};

/// The exit codes of `windlass`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// 0: done.
    Done = 0,
    /// 2: the command line is wrong.
    Usage = 2,
    /// 64: the daemon has no such operation or parameter.
    UnknownRequest = 64,
    /// 65: the input is bad, too large or cannot be read.
    BadInput = 65,
    /// 69: no daemon there, or the connection was lost.
    Unreachable = 69,
    /// 70: a bug of the daemon or of this program, or the output cannot be written.
    Internal = 70,
    /// 75: the daemon is busy or draining; later it may work.
    Busy = 75,
    /// 77: not allowed.
    Unauthorized = 77,
    /// 124: the deadline passed.
    Deadline = 124,
}

/// The same for `--help`.
pub(crate) const HELP: &str = "Exit codes:\n  \
    0 done · 2 usage · 64 unknown operation or parameter · 65 bad, too large or unreadable input · 69 unreachable\n  \
    70 internal, or the output cannot be written · 75 busy or draining · 77 unauthorized · 124 deadline";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl Exit {
    pub(crate) fn of_code(code: FailureCode) -> Self {
        match code {
            FailureCode::UNAUTHORIZED => Self::Unauthorized,
            FailureCode::UNKNOWN_OPERATION | FailureCode::INVALID_PARAMETER | FailureCode::UNSUPPORTED => {
                Self::UnknownRequest
            }
            FailureCode::CANCELLED => Self::Busy,
            other => match other.class() {
                CodeClass::Request => Self::BadInput,
                CodeClass::Capacity => Self::Busy,
                CodeClass::Stopped => Self::Deadline,
                CodeClass::Connection | CodeClass::Internal => Self::Internal,
            },
        }
    }

    pub(crate) fn of_call(error: &CallError) -> Self {
        match error {
            CallError::Failure(failure) => Self::of_code(failure.code),
            CallError::Unreachable { .. } | CallError::ConnectionLost { .. } => Self::Unreachable,
            CallError::TooLarge { .. } => Self::BadInput,
            CallError::DeadlineExceeded { .. } => Self::Deadline,
            CallError::Protocol { .. } | CallError::Closed => Self::Internal,
        }
    }

    /// What to do about it.
    fn hint(self) -> Option<&'static str> {
        match self {
            Self::Unreachable => {
                Some("is windlassd running there? --address or WINDLASS_ADDRESS names another")
            }
            Self::UnknownRequest => Some("'windlass operations' lists what there is"),
            Self::Busy => Some("try again later"),
            Self::Deadline => Some("give it more time with --deadline, or try when the daemon is less busy"),
            _ => None,
        }
    }
}

/// Why the program ends early. A problem without a message ends it quietly.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) exit: Exit,
    message: Option<String>,
}

impl Problem {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: Some(message.into()) }
    }

    /// A call that failed while `attempted`.
    pub(crate) fn from_call(attempted: &str, error: &CallError) -> Self {
        let exit = Exit::of_call(error);
        Self::new(
            exit,
            match exit.hint() {
                Some(hint) => format!("{attempted}: {error}; {hint}"),
                None => format!("{attempted}: {error}"),
            },
        )
    }

    /// Output that could not be written. A reader that has seen enough is no problem.
    pub(crate) fn from_output(to: impl Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self { exit: Exit::Done, message: None },
            _ => Self::new(Exit::Internal, format!("writing {to}: {error}")),
        }
    }

    /// The message alone.
    pub(crate) fn message(&self) -> &str {
        self.message.as_deref().unwrap_or_default()
    }

    /// Says it on standard error.
    pub(crate) fn report(&self) -> Exit {
        if let Some(message) = &self.message {
            // Where standard error is gone too, the exit code says it.
            let line: String = message.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
            let _reported = writeln!(io::stderr().lock(), "windlass: {line}");
        }
        self.exit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_code_has_its_exit_code() {
        let of = |code: FailureCode| Exit::of_code(code) as u8;
        let expected = [70, 70, 77, 64, 64, 65, 65, 64, 75, 75, 124, 75, 70];
        assert_eq!(FailureCode::ALL.map(of), expected);
    }
}
