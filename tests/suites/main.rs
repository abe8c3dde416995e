//! The suites. One program, so that what they share is compiled once.

mod admin;
mod main_line;
mod page;
mod top;
