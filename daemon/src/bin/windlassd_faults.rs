//! The daemon with the operations `fault-panic` and `fault-stuck`, for tests of containment.

use std::process::ExitCode;

fn main() -> ExitCode {
    windlass_daemon::main()
}
