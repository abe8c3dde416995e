//! redis-server, keeping nothing on disk.

use super::Server;
use crate::programs::installed;
use crate::trouble::Result;

/// More than its own default of 10,000, which a row about 18,500 connections would hit.
const CLIENTS_MAX: &str = "19000";

pub(crate) fn redis() -> Result<Server> {
    let program = installed("redis-server", "redis-server")?;
    Server::start(&program, |command, folder, port| {
        command.args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.args(["--maxclients", CLIENTS_MAX, "--dir"]).arg(folder);
    })
}
