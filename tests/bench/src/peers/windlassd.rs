//! Windlass itself: the release build with its defaults, except for where it listens and what a row is about.

use std::net::{Ipv4Addr, SocketAddr};

use super::{Server, free_ports};
use crate::load::Address;
use crate::programs;
use crate::trouble::Result;

pub(crate) struct Windlassd {
    pub(crate) server: Server,
    http: SocketAddr,
}

impl Windlassd {
    pub(crate) fn tcp(&self) -> Address {
        self.server.tcp()
    }

    pub(crate) fn unix(&self) -> Address {
        self.server.unix(SOCKET)
    }

    pub(crate) fn http(&self) -> Address {
        Address::Tcp(self.http)
    }
}

const SOCKET: &str = "windlass.sock";

pub(crate) fn windlassd(settings: &[&str]) -> Result<Windlassd> {
    let program = programs::windlassd()?;
    let [port, http, admin] = free_ports()?;
    let http = SocketAddr::from((Ipv4Addr::LOCALHOST, http));
    let mut server = Server::start_on(&program, port, |command, folder| {
        let socket = folder.join(SOCKET);
        let own = [
            format!("listen.tcp=127.0.0.1:{port}"),
            format!("listen.unix={}", socket.display()),
            format!("listen.http={http}"),
            format!("listen.admin=127.0.0.1:{admin}"),
        ];
        for setting in own.iter().map(String::as_str).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
    })?;
    server.wait_for(http)?;
    Ok(Windlassd { server, http })
}
