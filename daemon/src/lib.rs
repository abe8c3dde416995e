//! One process and its operator.

pub mod args;
pub mod config;
pub mod exit;
pub mod log;
pub mod operations;
pub mod systemd;
