//! gearmand with workers of our own, a process with a connection for each.

use std::process::Command;

use super::Server;
use crate::programs::installed;
use crate::trouble::{Attempt, Result};

/// With a worker for each of `workers`, a list of functions with commas between.
pub(crate) fn gearmand(workers: &[&str]) -> Result<Server> {
    let program = installed("gearmand", "gearman-job-server")?;
    let mut server = Server::start(&program, |command, folder, port| {
        command.args(["--listen=127.0.0.1", "--port", &port.to_string(), "--log-file"]);
        command.arg(folder.join("log")).arg("--pid-file").arg(folder.join("pid"));
    })?;
    let own = std::env::current_exe().trying("find this program itself")?;
    for functions in workers {
        let port = server.port().to_string();
        server.help(Command::new(&own).args([
            "gearman-worker",
            "--port",
            &port,
            "--functions",
            functions,
        ]))?;
    }
    Ok(server)
}
