//! The suites. One program, so that what they share is compiled once.

mod main_line;
