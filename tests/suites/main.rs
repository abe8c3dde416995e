//! The suites. One program, so that what they share is compiled once.

mod config;
mod drain;
mod drain_load;
mod drain_start;
mod limits;
mod main_line;
mod unix_socket;
