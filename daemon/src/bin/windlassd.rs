//! The daemon.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// Every request is taken apart on one thread and run on another, of lower priority: with locks in the allocator, the I/O
// thread waits for them.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    windlass_daemon::main()
}
