//! The servers of our own writing: this program, started again with a subcommand.

use super::Server;
use crate::serve::{Answering, Handlers};
use crate::trouble::{Attempt, Result};

/// axum with these handlers.
pub(crate) fn axum(handlers: Handlers) -> Result<Server> {
    start("serve-axum", &["--handlers", handlers.name()])
}

/// Frames of a length and as many bytes.
pub(crate) fn frames(answering: Answering) -> Result<Server> {
    start("serve-frames", &["--answering", answering.name()])
}

fn start(subcommand: &str, arguments: &[&str]) -> Result<Server> {
    let own = std::env::current_exe().trying("find this program itself")?;
    Server::start(&own, |command, folder, port| {
        command.args([subcommand, "--port", &port.to_string()]).args(arguments).current_dir(folder);
    })
}
