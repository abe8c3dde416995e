//! Where a daemon listens, as people write it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// The address of a daemon: `tcp://HOST:PORT` or `unix:///PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host name or IP address, without the brackets of IPv6, and a port.
    Tcp {
        /// Name or address.
        host: String,
        /// Port, not 0.
        port: u16,
    },
    /// An absolute path of a Unix socket.
    Unix(PathBuf),
}

/// One or more daemons that can do the same. Written with commas between them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Addresses(Vec<Address>);

/// A text that is not an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Neither `tcp://` nor `unix://`.
    #[error("'{0}' does not begin with tcp:// or unix://; write tcp://HOST:PORT or unix:///PATH")]
    Scheme(String),
    /// The part after `tcp://` has no port.
    #[error("'{0}' has no port; write tcp://HOST:PORT, as in tcp://127.0.0.1:7410")]
    PortMissing(String),
    /// The port is not one.
    #[error("'{found}' in '{address}' is not a port; a port is a number from 1 to 65535")]
    Port {
        /// What stands in its place.
        found: String,
        /// The whole text.
        address: String,
    },
    /// The host is empty, has a character that no host has, or is IPv6 without brackets.
    #[error(
        "'{found}' in '{address}' is not a host; write a name, an IPv4 address or an IPv6 address in brackets"
    )]
    Host {
        /// What stands in its place.
        found: String,
        /// The whole text.
        address: String,
    },
    /// The path of a Unix socket is not absolute.
    #[error("'{0}' has no absolute path; write three slashes, as in unix:///run/windlass/windlass.sock")]
    Path(String),
    /// There is none where at least one is needed.
    #[error("there is no address; write tcp://HOST:PORT or unix:///PATH")]
    Missing,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.len() > 1 && path.starts_with('/') && !path.contains('\0') {
                true => Ok(Self::Unix(PathBuf::from(path))),
                false => Err(AddressError::Path(text.to_owned())),
            };
        }
        let rest = text.strip_prefix("tcp://").ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest).ok_or_else(|| AddressError::PortMissing(text.to_owned()))?;
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| AddressError::Port { found: port.to_owned(), address: text.to_owned() })?;
        let host = bare_host(host)
            .ok_or_else(|| AddressError::Host { found: host.to_owned(), address: text.to_owned() })?;
        Ok(Self::Tcp { host: host.to_owned(), port })
    }
}

/// Splits at the last colon, unless it belongs to an IPv6 address in brackets.
fn split_port(text: &str) -> Option<(&str, &str)> {
    text.rsplit_once(':').filter(|(_, port)| !port.contains(']'))
}

fn bare_host(host: &str) -> Option<&str> {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok().then_some(inner);
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!host.is_empty() && host.chars().all(allowed)).then_some(host)
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(formatter, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(formatter, "tcp://{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

impl Addresses {
    /// The addresses in the order in which they were given, each once.
    ///
    /// # Errors
    ///
    /// `Missing` when there are none.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Result<Self, AddressError> {
        let mut each_once = Vec::new();
        for address in addresses {
            if !each_once.contains(&address) {
                each_once.push(address);
            }
        }
        if each_once.is_empty() { Err(AddressError::Missing) } else { Ok(Self(each_once)) }
    }

    /// Each address.
    pub fn iter(&self) -> std::slice::Iter<'_, Address> {
        self.0.iter()
    }

    /// The address, where there is no other.
    pub fn only(&self) -> Option<&Address> {
        match self.0.as_slice() {
            [address] => Some(address),
            _ => None,
        }
    }
}

impl From<Address> for Addresses {
    fn from(address: Address) -> Self {
        Self(vec![address])
    }
}

impl FromStr for Addresses {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let addresses: Result<Vec<_>, _> = text.split(',').map(|part| part.trim().parse()).collect();
        Self::new(addresses?)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.0.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(formatter, "{comma}{address}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_have_commas_between_them_and_count_once() {
        let text = "tcp://a:1,unix:///b,tcp://a:1";
        let addresses: Addresses = text.parse().unwrap();
        assert_eq!(addresses.to_string(), "tcp://a:1,unix:///b");
        assert_eq!(addresses.only(), None);
        assert_eq!("tcp://a:1".parse::<Addresses>().unwrap().only(), addresses.iter().next());
        assert_eq!(Addresses::new([]), Err(AddressError::Missing));
        assert!(matches!("tcp://a:1,,".parse::<Addresses>(), Err(AddressError::Scheme(_))));
    }

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["tcp://127.0.0.1:7410", "tcp://host.example:1", "tcp://[::1]:7410", "unix:///run/w.sock"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_wrong_address_is_told_what_is_wrong() {
        let error = |text: &str| text.parse::<Address>().unwrap_err();
        for text in ["", "127.0.0.1:7410", "http://host:1"] {
            assert!(matches!(error(text), AddressError::Scheme(_)), "{text}");
        }
        for text in ["tcp://", "tcp://host", "tcp://[::1]"] {
            assert!(matches!(error(text), AddressError::PortMissing(_)), "{text}");
        }
        for text in ["tcp://host:0", "tcp://host:65536", "tcp://host:", "tcp://host:http"] {
            assert!(matches!(error(text), AddressError::Port { .. }), "{text}");
        }
        for text in ["tcp://:7410", "tcp://::1:7410", "tcp://[zz]:7410", "tcp://a b:1"] {
            assert!(matches!(error(text), AddressError::Host { .. }), "{text}");
        }
        for text in ["unix://", "unix:///", "unix://run/w.sock"] {
            assert!(matches!(error(text), AddressError::Path(_)), "{text}");
        }
    }
}
