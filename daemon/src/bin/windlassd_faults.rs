//! The daemon with the operations `fault-panic` and `fault-stuck`, for tests of containment.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Every request is taken apart on one thread and run on another, of lower priority: with locks in the allocator, the I/O
// thread waits for them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    windlass_daemon::main()
}
