//! The clients against a daemon that does what each test wants.

mod blocking;
mod fake;
mod pipe;
mod pipelined;
