//! The suites. One program, so that what they share is compiled once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod admin;
mod alike;
mod backpressure;
mod bombs;
mod clients;
mod coalescing;
mod config;
mod containment;
mod cpu_reload;
mod drain;
mod drain_load;
mod drain_start;
mod foreign;
mod house;
mod http;
mod http2;
mod http_abuse;
mod http_doors;
mod http_drain;
mod http_examples;
mod http_load;
mod limits;
mod listeners;
mod main_line;
mod openapi;
mod overload;
mod page;
mod panic;
mod passwords;
mod python;
mod readme;
mod real_input;
mod retries;
mod service_manager;
mod status;
mod top;
mod unix_socket;
mod worlds;
