//! The suites. One program, so that what they share is compiled once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod clients;
mod main_line;
mod panic;
mod passwords;
mod real_input;
mod worlds;
