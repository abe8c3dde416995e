//! Where each door listens: on sockets that the service manager handed over (sd_listen_fds(3)), otherwise where the
//! configuration says.
//!
//! A socket that was handed over replaces the configured addresses of its kind, so that the same file works with and
//! without socket activation.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use listenfd::ListenFd;
use thiserror::Error;
use windlass_actors::settings::{ListenAddress, ListenSource, UnixAddress};

use crate::config::Listen;

/// What a socket unit may write behind `FileDescriptorName=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// The native protocol, over TCP or a Unix socket.
    Native,
    /// The native protocol over a Unix socket.
    NativeUnix,
    Http,
    Admin,
}

const NAMES: [(&str, Name); 4] = [
    ("native", Name::Native),
    ("native-unix", Name::NativeUnix),
    ("http", Name::Http),
    ("admin", Name::Admin),
];

/// A socket that cannot be served.
#[derive(Debug, Error)]
pub(crate) enum ActivationError {
    /// Nobody knows what to speak on it.
    #[error(
        "the service manager hands over a socket named '{name}', which is no door; FileDescriptorName= of the \
         socket unit takes {}",
        NAMES.map(|(name, _)| name).join(", ")
    )]
    Unknown {
        /// Its name.
        name: String,
    },
    /// It is something else than its name says.
    #[error(
        "the service manager hands over a descriptor named '{name}' that is not a listening {wanted}: {source}"
    )]
    Unfit {
        /// Its name.
        name: &'static str,
        /// What would do.
        wanted: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Strangers could reach it.
    #[error(
        "the service manager hands over a socket named '{name}' on {address}, which can be reached from other \
         machines, and nobody is asked who they are; change ListenStream= of the socket unit, or set \
         listen.allow_remote = true behind a firewall"
    )]
    Remote {
        /// Its name.
        name: &'static str,
        /// Where it is bound.
        address: SocketAddr,
    },
    /// There is one such door.
    #[error("the service manager hands over more than one socket named 'admin'; one ListenStream= is needed")]
    Doubled,
    /// The variables of the service manager do not make sense.
    #[error("LISTEN_FDS and LISTEN_FDNAMES: {0}")]
    Environment(#[source] io::Error),
}

/// Sockets that were handed over.
#[derive(Debug, Default)]
pub(crate) struct Activated(Vec<(Name, Socket)>);

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, PathBuf),
}

/// Where to listen, door by door.
#[derive(Debug)]
pub(crate) struct Doors {
    /// The native protocol.
    pub(crate) native: Vec<ListenSource>,
    /// Plain HTTP.
    pub(crate) http: Vec<ListenSource>,
    /// Health, metrics and status.
    pub(crate) admin: Option<ListenSource>,
    /// The keys whose addresses are not used, because others were handed over. For the log.
    pub(crate) replaced: Vec<&'static str>,
}

impl Activated {
    /// Takes what was handed to this process. Changes the environment, so it has to be called before there is a
    /// second thread.
    ///
    /// # Errors
    ///
    /// The first socket that cannot be served.
    pub(crate) fn take() -> Result<Self, ActivationError> {
        let named = sd_notify::listen_fds_with_names().map_err(ActivationError::Environment)?;
        let names: Vec<String> = named.map(|(_, name)| name).collect();
        if names.is_empty() {
            return Ok(Self::default());
        }
        let mut descriptors = ListenFd::from_env();
        let sockets = names.iter().enumerate().map(|(place, text)| {
            let (text, name) = known(text)?;
            Ok((name, take_one(&mut descriptors, place, text, name)?))
        });
        Ok(Self(sockets.collect::<Result<_, _>>()?))
    }
}

fn known(text: &str) -> Result<(&'static str, Name), ActivationError> {
    let known = NAMES.into_iter().find(|(known, _)| *known == text);
    known.ok_or_else(|| ActivationError::Unknown { name: text.to_owned() })
}

fn take_one(
    descriptors: &mut ListenFd,
    place: usize,
    text: &'static str,
    name: Name,
) -> Result<Socket, ActivationError> {
    let unix = |descriptors: &mut ListenFd| {
        let socket = descriptors.take_unix_listener(place)?.ok_or(io::ErrorKind::NotFound)?;
        let path = socket.local_addr()?.as_pathname().map(PathBuf::from);
        listening(&socket)?;
        Ok(Socket::Unix(socket, path.unwrap_or_else(|| PathBuf::from("(abstract)"))))
    };
    let tcp = |descriptors: &mut ListenFd| {
        let socket = descriptors.take_tcp_listener(place)?.ok_or(io::ErrorKind::NotFound)?;
        let address = socket.local_addr()?;
        listening(&socket)?;
        Ok(Socket::Tcp(socket, address))
    };
    let (wanted, socket): (_, io::Result<Socket>) = match name {
        Name::Native => {
            ("TCP or Unix stream socket", tcp(descriptors).or_else(|_: io::Error| unix(descriptors)))
        }
        Name::NativeUnix => ("Unix stream socket", unix(descriptors)),
        Name::Http | Name::Admin => ("TCP socket", tcp(descriptors)),
    };
    socket.map_err(|source| ActivationError::Unfit { name: text, wanted, source })
}

fn listening(socket: impl std::os::fd::AsFd) -> io::Result<()> {
    match rustix::net::sockopt::socket_acceptconn(socket)? {
        true => Ok(()),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it does not listen; Accept=no is needed")),
    }
}

impl Doors {
    /// Every door, on what was handed over for it or else on what is configured.
    ///
    /// # Errors
    ///
    /// A socket that other machines can reach without `listen.allow_remote`.
    pub(crate) fn new(listen: &Listen, activated: Activated) -> Result<Self, ActivationError> {
        let (mut tcp, mut unix, mut http, mut admin) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (name, socket) in activated.0 {
            if let Socket::Tcp(_, address) = &socket
                && !listen.allow_remote
                && !address.ip().to_canonical().is_loopback()
            {
                return Err(ActivationError::Remote { name: name.text(), address: *address });
            }
            let door = match (name, &socket) {
                (Name::Native | Name::NativeUnix, Socket::Tcp(..)) => &mut tcp,
                (Name::Native | Name::NativeUnix, Socket::Unix(..)) => &mut unix,
                (Name::Http, _) => &mut http,
                (Name::Admin, _) => &mut admin,
            };
            door.push(source(socket));
        }
        let configured_unix = listen.unix.iter().cloned().map(ListenAddress::Unix);
        let mut replaced = Vec::new();
        let mut door = |key, handed_over, configured: Vec<ListenAddress>| {
            otherwise(handed_over, configured, || replaced.push(key))
        };
        let tcp_of = |addresses: &[SocketAddr]| addresses.iter().copied().map(ListenAddress::Tcp).collect();
        let mut native = door("listen.tcp", tcp, tcp_of(&listen.tcp));
        native.extend(door("listen.unix", unix, configured_unix.collect()));
        let http = door("listen.http", http, tcp_of(&listen.http));
        let mut admin = door("listen.admin", admin, tcp_of(listen.admin.as_slice()));
        if admin.len() > 1 {
            return Err(ActivationError::Doubled);
        }
        let admin = admin.pop();
        Ok(Self { native, http, admin, replaced })
    }
}

/// What was handed over, or where there is nothing, what is configured. `replaced` is told when an address that is
/// configured is not used.
fn otherwise(
    handed_over: Vec<ListenSource>,
    configured: Vec<ListenAddress>,
    replaced: impl FnOnce(),
) -> Vec<ListenSource> {
    if handed_over.is_empty() {
        return configured.into_iter().map(ListenSource::Address).collect();
    }
    let used = |address: &ListenAddress| handed_over.iter().any(|source| is_at(source, address));
    if !configured.iter().all(used) {
        replaced();
    }
    handed_over
}

fn is_at(source: &ListenSource, place: &ListenAddress) -> bool {
    match (source, place) {
        (ListenSource::ActivatedTcp { address, .. }, ListenAddress::Tcp(place)) => address == place,
        (ListenSource::ActivatedUnix { address, .. }, ListenAddress::Unix(place)) => {
            address.path == place.path
        }
        _ => false,
    }
}

fn source(socket: Socket) -> ListenSource {
    match socket {
        Socket::Tcp(socket, address) => ListenSource::ActivatedTcp { socket, address },
        Socket::Unix(socket, path) => {
            // The rights are the socket unit's business; these are never set.
            let address = UnixAddress { path, mode: 0, uid: None, gid: None };
            ListenSource::ActivatedUnix { socket, address }
        }
    }
}

impl Name {
    fn text(self) -> &'static str {
        NAMES.into_iter().find(|(_, name)| *name == self).map_or("", |(text, _)| text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Listen {
        Listen {
            tcp: vec!["127.0.0.1:7410".parse().unwrap()],
            unix: vec![UnixAddress { path: "/run/x".into(), mode: 0o660, uid: None, gid: None }],
            http: vec!["127.0.0.1:7411".parse().unwrap()],
            http_hosts: Vec::new(),
            admin: Some("127.0.0.1:7412".parse().unwrap()),
            allow_remote: false,
        }
    }

    fn tcp(address: &str) -> Socket {
        let socket = TcpListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        Socket::Tcp(socket, address)
    }

    fn is_activated(sources: &[ListenSource]) -> Vec<bool> {
        sources.iter().map(|source| !matches!(source, ListenSource::Address(_))).collect()
    }

    #[test]
    fn without_activation_every_door_is_where_the_configuration_says() {
        let doors = Doors::new(&configured(), Activated::take().unwrap()).unwrap();
        assert_eq!(is_activated(&doors.native), [false, false]);
        assert_eq!(is_activated(&doors.http), [false]);
        assert_eq!(is_activated(doors.admin.as_slice()), [false]);
        assert_eq!(doors.replaced, Vec::<&str>::new());
    }

    #[test]
    fn a_socket_replaces_the_addresses_of_its_own_kind_alone() {
        let activated = Activated(vec![
            (Name::Native, tcp("127.0.0.1:0")),
            (Name::Native, tcp("[::1]:0")),
            (Name::Admin, tcp("127.0.0.1:0")),
        ]);
        let doors = Doors::new(&configured(), activated).unwrap();
        assert_eq!(is_activated(&doors.native), [true, true, false]);
        assert_eq!(is_activated(&doors.http), [false]);
        assert_eq!(is_activated(doors.admin.as_slice()), [true]);
        assert_eq!(doors.replaced, ["listen.tcp", "listen.admin"]);
    }

    #[test]
    fn a_unix_socket_leaves_tcp_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = UnixListener::bind(&path).unwrap();
        let activated = Activated(vec![(Name::NativeUnix, Socket::Unix(socket, path))]);
        let doors = Doors::new(&configured(), activated).unwrap();
        assert_eq!(is_activated(&doors.native), [false, true]);
    }

    #[test]
    fn a_socket_at_the_configured_address_replaces_nothing() {
        let socket = tcp("127.0.0.1:0");
        let Socket::Tcp(_, address) = &socket else { unreachable!("it was made above") };
        let listen = Listen { tcp: vec![*address], ..configured() };
        let doors = Doors::new(&listen, Activated(vec![(Name::Native, socket)])).unwrap();
        assert_eq!(doors.replaced, Vec::<&str>::new());
    }

    #[test]
    fn a_socket_for_everybody_needs_allow_remote() {
        let open = || Activated(vec![(Name::Http, tcp("0.0.0.0:0"))]);
        let error = Doors::new(&configured(), open()).unwrap_err().to_string();
        assert!(error.contains("'http'") && error.contains("listen.allow_remote"), "{error}");
        assert!(Doors::new(&Listen { allow_remote: true, ..configured() }, open()).is_ok());
    }

    #[test]
    fn an_unknown_name_is_answered_with_those_there_are() {
        let error = known("windlass.socket").unwrap_err().to_string();
        assert!(
            error.contains("'windlass.socket'") && error.contains("native, native-unix, http, admin"),
            "{error}"
        );
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(listening(&one).is_err());
    }
}
