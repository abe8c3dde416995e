//! The daemon.

use std::process::ExitCode;

fn main() -> ExitCode {
    windlass_daemon::main()
}
