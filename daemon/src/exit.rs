//! How windlassd ends, as its exit status.

use std::process::{ExitCode, Termination};

/// The exit statuses of windlassd. 69, 75 and 78 are those of sysexits.h; systemd shows them by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Drained clean: everything accepted was answered.
    Drained = 0,
    /// Failed while running.
    Failed = 1,
    /// Wrong use of the command line.
    Usage = 2,
    /// An address cannot be bound.
    CannotBind = 69,
    /// The drain was cut short: by its deadline, and everything accepted was answered all the same, or by a second
    /// signal, which ends the process where it stands.
    DrainIncomplete = 75,
    /// The configuration has problems.
    BadConfiguration = 78,
}

impl Exit {
    /// The number that the parent process sees.
    pub const fn status(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statuses_are_those_that_the_unit_and_the_readme_name() {
        let all = [
            Exit::Drained,
            Exit::Failed,
            Exit::Usage,
            Exit::CannotBind,
            Exit::DrainIncomplete,
            Exit::BadConfiguration,
        ];
        assert_eq!(all.map(Exit::status), [0, 1, 2, 69, 75, 78]);
    }
}
