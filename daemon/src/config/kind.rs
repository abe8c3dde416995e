//! The types of configuration values: how each is written, read and checked, and how that is told to people.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ::config::ValueKind;
use windlass_actors::operation::ParameterKind;
use windlass_actors::units::{UnitError, format_duration, format_size, parse_duration, parse_size};

use super::problem::{Fault, nearest};

/// Type and range of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A list of `IP:PORT`.
    Addresses,
    /// `IP:PORT`, or `off`.
    Address,
    /// A list of absolute paths of Unix sockets.
    SocketPaths,
    /// A list of names or addresses of machines, without ports.
    Hosts,
    /// A list of some of these names.
    Names(Vec<&'static str>),
    /// Permission bits as octal text.
    Mode,
    /// A user's name or number.
    User,
    /// A group's name or number.
    Group,
    /// `true` or `false`.
    Switch,
    /// A whole number, both ends included.
    Number { min: i64, max: i64 },
    /// The same, or `auto`.
    NumberOrAuto { min: i64, max: i64 },
    /// A size, both ends included, bytes.
    Size { min: u64, max: u64 },
    /// A duration, both ends included.
    Duration { min: Duration, max: Duration },
    /// `1/N`, N from 2 to this.
    Share { max: u32 },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A log level, or directives by target.
    Level,
    /// What an operation declares.
    Parameter(ParameterKind),
}

/// A value that was read and lies in its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    Addresses(Vec<SocketAddr>),
    Address(Option<SocketAddr>),
    SocketPaths(Vec<PathBuf>),
    Hosts(Vec<String>),
    Names(Vec<&'static str>),
    Mode(u32),
    Id(u32),
    Switch(bool),
    Number(u64),
    Auto,
    Size(u64),
    Duration(Duration),
    Share(u32),
    Word(String),
    Unset,
}

/// `sun_path` holds 108 bytes, the closing zero included (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

impl Kind {
    /// Gives a text from the environment or the command line the type that the key has; what does not look like it
    /// stays a text and is refused as such by [`Kind::read`].
    pub(super) fn typed(&self, text: &str) -> ValueKind {
        let text = text.trim();
        let number = || text.parse::<i64>().map_or_else(|_| ValueKind::from(text), ValueKind::from);
        match self {
            Self::Addresses | Self::SocketPaths | Self::Hosts | Self::Names(_) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                ValueKind::from(items.map(str::to_owned).collect::<Vec<_>>())
            }
            Self::Switch => text.parse::<bool>().map_or_else(|_| ValueKind::from(text), ValueKind::from),
            Self::Number { .. } | Self::NumberOrAuto { .. } | Self::User | Self::Group => number(),
            Self::Parameter(ParameterKind::Integer { .. }) => number(),
            _ => ValueKind::from(text),
        }
    }

    /// Reads a value of the right type.
    pub(super) fn read(&self, value: &ValueKind) -> Result<Setting, Fault> {
        match (self, value) {
            (Self::Addresses, ValueKind::Array(_)) => each(value, address).map(Setting::Addresses),
            (Self::Address, ValueKind::String(text)) if text == "off" => Ok(Setting::Address(None)),
            (Self::Address, ValueKind::String(text)) => {
                address(text).map(|address| Setting::Address(Some(address)))
            }
            (Self::SocketPaths, ValueKind::Array(_)) => each(value, socket_path).map(Setting::SocketPaths),
            (Self::Hosts, ValueKind::Array(_)) => each(value, host).map(Setting::Hosts),
            (Self::Names(known), ValueKind::Array(_)) => {
                each(value, |text| name(text, known)).map(Setting::Names)
            }
            (Self::Mode, ValueKind::String(text)) => mode(text),
            (Self::User, ValueKind::String(text)) => uzers::get_user_by_name(text)
                .map(|user| Setting::Id(user.uid()))
                .ok_or_else(|| unknown_account("user", text)),
            (Self::Group, ValueKind::String(text)) => uzers::get_group_by_name(text)
                .map(|group| Setting::Id(group.gid()))
                .ok_or_else(|| unknown_account("group", text)),
            // The largest number is the kernel's word for "leave it as it is" (chown(2)).
            (Self::User | Self::Group, _) => {
                let id = self.whole(value, 0, i64::from(u32::MAX) - 1)?;
                Ok(Setting::Id(u32::try_from(id).expect("the range was checked")))
            }
            (Self::Switch, ValueKind::Boolean(on)) => Ok(Setting::Switch(*on)),
            (Self::NumberOrAuto { .. }, ValueKind::String(text)) if text == "auto" => Ok(Setting::Auto),
            (Self::Number { min, max } | Self::NumberOrAuto { min, max }, _) => {
                let number = self.whole(value, *min, *max)?;
                Ok(Setting::Number(u64::try_from(number).expect("no range of a key begins below zero")))
            }
            (Self::Size { min, max }, ValueKind::String(text)) => match parse_size(text).map_err(unit)? {
                size if (*min..=*max).contains(&size) => Ok(Setting::Size(size)),
                size => Err(self.outside(&format_size(size))),
            },
            (Self::Duration { min, max }, ValueKind::String(text)) => {
                match parse_duration(text).map_err(unit)? {
                    duration if (*min..=*max).contains(&duration) => Ok(Setting::Duration(duration)),
                    duration => Err(self.outside(&format_duration(duration))),
                }
            }
            (Self::Share { max }, ValueKind::String(text)) => share(text, *max)
                .map(Setting::Share)
                .ok_or_else(|| Fault::new(format!("is not a part, {}", self.range()))),
            (Self::Choice(words), ValueKind::String(text)) => {
                name(text, words).map(|word| Setting::Word(word.to_owned()))
            }
            (Self::Level, ValueKind::String(text)) => {
                match crate::log::check_level(text) {
                    Ok(()) => Ok(Setting::Word(text.clone())),
                    Err(reason) => Err(Fault::new(reason)
                        .hint("write for example \"info\" or \"info,windlass_actors=debug\"")),
                }
            }
            (Self::Parameter(kind), _) => self.parameter(kind, value),
            _ => Err(self.mismatch(value)),
        }
    }

    fn parameter(&self, kind: &ParameterKind, value: &ValueKind) -> Result<Setting, Fault> {
        let text = match (kind, value) {
            (ParameterKind::Integer { .. }, ValueKind::I64(number)) => number.to_string(),
            (ParameterKind::Integer { .. }, _) => return Err(self.mismatch(value)),
            (_, ValueKind::String(text)) => text.clone(),
            _ => return Err(self.mismatch(value)),
        };
        kind.parse(&text).map_err(Fault::new)?;
        Ok(Setting::Word(text))
    }

    fn whole(&self, value: &ValueKind, min: i64, max: i64) -> Result<i64, Fault> {
        match value {
            ValueKind::I64(number) if (min..=max).contains(number) => Ok(*number),
            ValueKind::I64(_) | ValueKind::I128(_) => {
                let fault = Fault::new(format!("{value} is outside {min} to {max}"));
                let automatic = matches!(self, Self::NumberOrAuto { .. });
                Err(if automatic { fault.hint("or write \"auto\"") } else { fault })
            }
            _ => Err(self.mismatch(value)),
        }
    }

    /// A value of another type: says both types, and how to write the right one.
    fn mismatch(&self, value: &ValueKind) -> Fault {
        let fault = Fault::new(format!("is {}, not {}", type_of(value), self.range()));
        match (self, value) {
            (Self::Size { .. } | Self::Parameter(ParameterKind::Size { .. }), ValueKind::I64(number)) => {
                fault.hint(format!("say the unit, for example \"{number}MiB\""))
            }
            (
                Self::Duration { .. } | Self::Parameter(ParameterKind::Duration { .. }),
                ValueKind::I64(number),
            ) => fault.hint(format!("say the unit, for example \"{number}s\"")),
            (
                Self::Number { .. } | Self::NumberOrAuto { .. } | Self::Parameter(_),
                ValueKind::String(text),
            ) if text.parse::<i64>().is_ok() => fault.hint("write the number without quotes"),
            (Self::Addresses | Self::SocketPaths | Self::Hosts | Self::Names(_), ValueKind::String(text)) => {
                fault.hint(format!("write a list: [{}]", quoted(text)))
            }
            (Self::Mode, ValueKind::I64(number)) => {
                fault.hint(format!("write it in quotes: \"{number:04}\""))
            }
            (Self::Address, ValueKind::Boolean(false)) => fault.hint("write \"off\""),
            (Self::Switch, _) => fault.hint("write true or false, without quotes"),
            _ => fault,
        }
    }

    fn outside(&self, found: &str) -> Fault {
        Fault::new(format!("{found} is outside {}", self.bounds()))
    }

    fn bounds(&self) -> String {
        match self {
            Self::Number { min, max } | Self::NumberOrAuto { min, max } => format!("{min} to {max}"),
            Self::Size { min, max } => format!("{} to {}", format_size(*min), format_size(*max)),
            Self::Duration { min, max } => format!("{} to {}", format_duration(*min), format_duration(*max)),
            _ => String::new(),
        }
    }

    /// Type, unit and range, for people: ends the sentence "the value is …".
    pub(super) fn range(&self) -> String {
        match self {
            Self::Addresses => "a list of addresses \"IP:PORT\", empty for none".into(),
            Self::Address => "an address \"IP:PORT\", or \"off\"".into(),
            Self::SocketPaths => {
                format!("a list of absolute paths of at most {SOCKET_PATH_BYTES_MAX} bytes, empty for none")
            }
            Self::Hosts => "a list of names or addresses without ports, empty for none".into(),
            Self::Names(_) => "a list of names".into(),
            Self::Mode => "permission bits in octal, \"0000\" to \"0777\"".into(),
            Self::User => "a user's name or number".into(),
            Self::Group => "a group's name or number".into(),
            Self::Switch => "true or false".into(),
            Self::Number { .. } => format!("a whole number, {}", self.bounds()),
            Self::NumberOrAuto { .. } => format!("\"auto\" or a whole number, {}", self.bounds()),
            Self::Size { .. } => format!("a size in B, KiB, MiB or GiB, {}", self.bounds()),
            Self::Duration { .. } => format!("a duration in us, ms, s, m or h, {}", self.bounds()),
            Self::Share { max } => format!("\"1/2\" to \"1/{max}\""),
            Self::Choice(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", words.join(", "))
            }
            Self::Level => "error, warn, info, debug or trace, or such levels by target".into(),
            Self::Parameter(kind) => match kind {
                ParameterKind::Integer { .. } => format!("a whole number, {}", kind.range()),
                ParameterKind::Size { .. } => format!("a size in B, KiB, MiB or GiB, {}", kind.range()),
                ParameterKind::Duration { .. } => {
                    format!("a duration in us, ms, s, m or h, {}", kind.range())
                }
                ParameterKind::Choice(_) => format!("one of {}", kind.range()),
                ParameterKind::Text { .. } => kind.range(),
            },
        }
    }
}

/// Every item of a list, or all that is wrong with them.
fn each<T>(value: &ValueKind, read: impl Fn(&str) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
    let ValueKind::Array(items) = value else { unreachable!("called for lists only") };
    let (mut read_items, mut reasons, mut hint) = (Vec::new(), Vec::new(), None);
    for item in items {
        let result = match &item.kind {
            ValueKind::String(text) => read(text),
            other => Err(Fault::new(format!("{} is {}, not a text", toml_text(other), type_of(other)))),
        };
        match result {
            Ok(item) => read_items.push(item),
            Err(fault) => {
                reasons.push(fault.reason);
                hint = hint.or(fault.hint);
            }
        }
    }
    if reasons.is_empty() { Ok(read_items) } else { Err(Fault { reason: reasons.join("; "), hint }) }
}

fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        let fault = Fault::new(format!("{} is not an address", quoted(text)));
        if text.parse::<IpAddr>().is_ok() {
            fault.hint("add the port, for example \"127.0.0.1:7410\" or \"[::1]:7410\"")
        } else {
            fault.hint("write IP and port, for example \"127.0.0.1:7410\"; names are not looked up")
        }
    })
}

/// A name as in DNS (RFC 1123 §2.1), or an IP address without brackets.
fn host(text: &str) -> Result<String, Fault> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    if is_name || text.parse::<IpAddr>().is_ok() {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Fault::new(format!("{} is not a host", quoted(text)))
            .hint("write a name without scheme and port, for example \"jobs.example.org\""))
    }
}

fn socket_path(text: &str) -> Result<PathBuf, Fault> {
    let path = PathBuf::from(text);
    if let Some(rest) = text.strip_prefix("unix://") {
        Err(Fault::new(format!("{} is a client's address", quoted(text)))
            .hint(format!("write {}", quoted(rest))))
    } else if !path.is_absolute() {
        Err(Fault::new(format!("{} is a relative path", quoted(text)))
            .hint("write where the socket stands from the root, for example \"/run/windlass/windlass.sock\""))
    } else if text.len() > SOCKET_PATH_BYTES_MAX {
        let reason =
            format!("the path has {} bytes; a socket's may have {SOCKET_PATH_BYTES_MAX}", text.len());
        Err(Fault::new(reason).hint("choose a shorter path"))
    } else if path.file_name().is_none() || text.ends_with('/') || text.contains('\0') {
        Err(Fault::new(format!("{} does not name a file", quoted(text))))
    } else {
        Ok(path)
    }
}

fn name(text: &str, known: &[&'static str]) -> Result<&'static str, Fault> {
    known.iter().find(|name| **name == text).copied().ok_or_else(|| {
        let fault = Fault::new(format!("{} is not one of {}", quoted(text), known.join(", ")));
        match nearest(text, known.iter().copied()) {
            Some(near) => fault.hint(format!("did you mean {}?", quoted(near))),
            None => fault,
        }
    })
}

fn mode(text: &str) -> Result<Setting, Fault> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o777 => Ok(Setting::Mode(mode)),
        _ => Err(Fault::new(format!("{} is not {}", quoted(text), Kind::Mode.range()))
            .hint("\"0660\" lets owner and group connect")),
    }
}

fn unknown_account(what: &str, text: &str) -> Fault {
    Fault::new(format!("this machine has no {what} {}", quoted(text)))
        .hint(format!("create it, or leave the key out for the {what} that windlassd runs as"))
}

fn share(text: &str, max: u32) -> Option<u32> {
    let parts = text.strip_prefix("1/")?.parse().ok()?;
    (2..=max).contains(&parts).then_some(parts)
}

fn unit(error: UnitError) -> Fault {
    Fault::new(error.to_string())
}

fn type_of(value: &ValueKind) -> &'static str {
    match value {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a bare number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}

/// A text as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// A value as TOML writes it, on one line.
pub(super) fn toml_text(value: &ValueKind) -> String {
    match value {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(items) => {
            let items: Vec<_> = items.iter().map(|item| toml_text(&item.kind)).collect();
            format!("[{}]", items.join(", "))
        }
        ValueKind::Table(_) => "{ … }".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: &Kind, value: impl Into<ValueKind>) -> Fault {
        kind.read(&value.into()).unwrap_err()
    }

    #[test]
    fn a_bare_number_is_no_quantity_and_the_hint_says_the_unit() {
        let kind = Kind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(60) };
        assert!(refusal(&kind, 30_i64).hint.unwrap().contains("\"30s\""));
        let kind = Kind::Size { min: 1, max: 1 << 30 };
        assert!(refusal(&kind, 30_i64).hint.unwrap().contains("\"30MiB\""));
        assert!(refusal(&kind, "30").reason.contains("integer and a unit"));
        assert_eq!(kind.read(&"30KiB".into()), Ok(Setting::Size(30 << 10)));
    }

    #[test]
    fn a_number_in_quotes_is_refused_in_a_file_and_typed_from_the_environment() {
        let kind = Kind::NumberOrAuto { min: 1, max: 8 };
        assert_eq!(refusal(&kind, "4").hint.unwrap(), "write the number without quotes");
        assert_eq!(kind.read(&kind.typed("4")), Ok(Setting::Number(4)));
        assert_eq!(kind.read(&kind.typed("auto")), Ok(Setting::Auto));
        assert!(refusal(&kind, 0_i64).reason.contains("0 is outside 1 to 8"));
        assert!(kind.read(&kind.typed("many")).is_err());
    }

    #[test]
    fn lists_from_the_environment_are_separated_by_commas() {
        let typed = Kind::Addresses.typed("127.0.0.1:1, [::1]:2");
        let expected = vec!["127.0.0.1:1".parse().unwrap(), "[::1]:2".parse().unwrap()];
        assert_eq!(Kind::Addresses.read(&typed), Ok(Setting::Addresses(expected)));
        assert_eq!(Kind::Addresses.read(&Kind::Addresses.typed("")), Ok(Setting::Addresses(vec![])));
    }

    #[test]
    fn every_item_of_a_list_that_is_wrong_is_named() {
        let fault = refusal(&Kind::Addresses, vec!["localhost:1", "127.0.0.1", "127.0.0.1:1"]);
        assert!(fault.reason.contains("localhost:1") && fault.reason.contains("\"127.0.0.1\""), "{fault:?}");
    }

    #[test]
    fn socket_paths_are_absolute_and_short_and_name_a_file() {
        let too_long = format!("/{}", "x".repeat(SOCKET_PATH_BYTES_MAX));
        for bad in ["windlass.sock", "unix:///run/w.sock", too_long.as_str(), "/run/", "/"] {
            assert!(Kind::SocketPaths.read(&vec![bad].into()).is_err(), "{bad}");
        }
        assert!(Kind::SocketPaths.read(&vec!["/run/windlass/w.sock"].into()).is_ok());
    }

    #[test]
    fn hosts_are_names_or_addresses_without_scheme_and_port() {
        for bad in ["http://a", "a:80", "a..b", "", "a b", "*", "[::1]"] {
            assert!(Kind::Hosts.read(&vec![bad].into()).is_err(), "{bad}");
        }
        let read = Kind::Hosts.read(&vec!["Jobs.Example", "192.0.2.1", "fd00::1"].into());
        let expected = ["jobs.example", "192.0.2.1", "fd00::1"].map(str::to_owned).to_vec();
        assert_eq!(read, Ok(Setting::Hosts(expected)));
    }

    #[test]
    fn modes_are_octal_permission_bits() {
        for bad in ["0888", "1777", "rw-rw----", "+660", "", "00000660"] {
            assert!(Kind::Mode.read(&bad.into()).is_err(), "{bad}");
        }
        assert_eq!(Kind::Mode.read(&"0660".into()), Ok(Setting::Mode(0o660)));
        assert_eq!(Kind::Mode.read(&"660".into()), Ok(Setting::Mode(0o660)));
        assert!(refusal(&Kind::Mode, 660_i64).hint.unwrap().contains("\"0660\""));
    }

    #[test]
    fn owners_are_names_or_numbers_and_unknown_names_are_refused() {
        assert_eq!(Kind::User.read(&"root".into()), Ok(Setting::Id(0)));
        assert_eq!(Kind::Group.read(&Kind::Group.typed("1000")), Ok(Setting::Id(1000)));
        assert!(refusal(&Kind::User, "nobody-of-this-name").reason.contains("no user"));
        assert!(Kind::Group.read(&i64::from(u32::MAX).into()).is_err());
    }

    #[test]
    fn a_batch_share_is_one_part_of_at_least_two() {
        let kind = Kind::Share { max: 100 };
        assert_eq!(kind.read(&"1/8".into()), Ok(Setting::Share(8)));
        for bad in ["1/1", "1/0", "2/8", "1/101", "0.125", "8", "1/x"] {
            assert!(kind.read(&bad.into()).is_err(), "{bad}");
        }
    }
}
