//! The suites. One program, so that what they share is compiled once.

mod config;
mod drain;
mod drain_load;
mod drain_start;
mod house;
mod main_line;
mod readme;
mod unix_socket;
