//! The suites. One program, so that what they share is compiled once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]
#![allow(clippy::print_stdout, reason = "the test runner shows it when the test fails")]

mod bombs;
mod config;
mod drain;
mod drain_load;
mod drain_start;
mod limits;
mod main_line;
mod overload;
mod unix_socket;
