//! Why a request failed, as a stable number.

use std::fmt;

/// The code of a Failure. Numbers are never reused or renumbered; a reader that does not know one treats it as its
/// ten says ([`FailureCode::class`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FailureCode(u16);

/// What a code's ten says about who can do something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeClass {
    /// 0–9: the connection or its rights; sending the same again on this connection is useless.
    Connection,
    /// 10–19: the request itself; change it.
    Request,
    /// 20–29: the daemon is busy or leaving; try again later or elsewhere.
    Capacity,
    /// 30–39: time ran out, or somebody stopped it.
    Stopped,
    /// 40 and above: the daemon's fault.
    Internal,
}

impl FailureCode {
    /// The peer broke a rule of the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// No common version.
    pub const UNSUPPORTED_VERSION: Self = Self(2);
    /// Reserved for authentication.
    pub const UNAUTHORIZED: Self = Self(3);
    /// No operation of that name is enabled.
    pub const UNKNOWN_OPERATION: Self = Self(10);
    /// A parameter is unknown, missing, given twice or out of its range.
    pub const INVALID_PARAMETER: Self = Self(11);
    /// The body is not what the operation reads.
    pub const INVALID_INPUT: Self = Self(12);
    /// The input or the output is over a limit.
    pub const TOO_LARGE: Self = Self(13);
    /// A feature, extension or subject that this daemon does not have.
    pub const UNSUPPORTED: Self = Self(14);
    /// A limit on what runs or waits is reached.
    pub const OVERLOADED: Self = Self(20);
    /// The daemon is shutting down.
    pub const DRAINING: Self = Self(21);
    /// The deadline passed, or could not have been kept.
    pub const DEADLINE_EXCEEDED: Self = Self(30);
    /// Stopped by the client or by the end of a drain.
    pub const CANCELLED: Self = Self(31);
    /// A bug in the daemon or the operation.
    pub const INTERNAL: Self = Self(40);

    /// Every code of version 1, in the order of their numbers.
    pub const ALL: [Self; 13] = [
        Self::PROTOCOL_ERROR,
        Self::UNSUPPORTED_VERSION,
        Self::UNAUTHORIZED,
        Self::UNKNOWN_OPERATION,
        Self::INVALID_PARAMETER,
        Self::INVALID_INPUT,
        Self::TOO_LARGE,
        Self::UNSUPPORTED,
        Self::OVERLOADED,
        Self::DRAINING,
        Self::DEADLINE_EXCEEDED,
        Self::CANCELLED,
        Self::INTERNAL,
    ];

    /// The code with this number, known or not.
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// What to make of it, known or not.
    pub const fn class(self) -> CodeClass {
        match self.0 / 10 {
            0 => CodeClass::Connection,
            1 => CodeClass::Request,
            2 => CodeClass::Capacity,
            3 => CodeClass::Stopped,
            _ => CodeClass::Internal,
        }
    }

    /// The name in SPEC.md, or the name of the class for a number that this version does not know.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PROTOCOL_ERROR => "ProtocolError",
            Self::UNSUPPORTED_VERSION => "UnsupportedVersion",
            Self::UNAUTHORIZED => "Unauthorized",
            Self::UNKNOWN_OPERATION => "UnknownOperation",
            Self::INVALID_PARAMETER => "InvalidParameter",
            Self::INVALID_INPUT => "InvalidInput",
            Self::TOO_LARGE => "TooLarge",
            Self::UNSUPPORTED => "Unsupported",
            Self::OVERLOADED => "Overloaded",
            Self::DRAINING => "Draining",
            Self::DEADLINE_EXCEEDED => "DeadlineExceeded",
            Self::CANCELLED => "Cancelled",
            Self::INTERNAL => "Internal",
            _ => match self.class() {
                CodeClass::Connection => "Connection",
                CodeClass::Request => "Request",
                CodeClass::Capacity => "Capacity",
                CodeClass::Stopped => "Stopped",
                CodeClass::Internal => "Internal",
            },
        }
    }
}

impl fmt::Display for FailureCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl fmt::Debug for FailureCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}({})", self.name(), self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_is_read_by_its_ten() {
        let of = |number| FailureCode::from_number(number).class();
        assert_eq!(of(9), CodeClass::Connection);
        assert_eq!(of(19), CodeClass::Request);
        assert_eq!(of(29), CodeClass::Capacity);
        assert_eq!(of(39), CodeClass::Stopped);
        assert_eq!(of(49), CodeClass::Internal);
        assert_eq!(of(9999), CodeClass::Internal);
    }

    #[test]
    fn known_codes_have_distinct_names_and_rising_numbers() {
        for pair in FailureCode::ALL.windows(2) {
            assert!(pair[0].number() < pair[1].number());
            assert_ne!(pair[0].name(), pair[1].name());
        }
    }
}
