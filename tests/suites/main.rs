//! The suites. One program, so that what they share is compiled once.

mod house;
mod main_line;
mod readme;
