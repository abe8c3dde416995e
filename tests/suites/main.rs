//! The suites. One program, so that what they share is compiled once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod admin;
mod backpressure;
mod bombs;
mod clients;
mod config;
mod cpu_reload;
mod drain;
mod drain_load;
mod drain_start;
mod house;
mod http;
mod http_abuse;
mod http_doors;
mod http_drain;
mod http_examples;
mod limits;
mod listeners;
mod main_line;
mod overload;
mod page;
mod panic;
mod passwords;
mod python;
mod readme;
mod real_input;
mod service_manager;
mod top;
mod unix_socket;
mod worlds;
