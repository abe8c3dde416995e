//! One process and its operator.

pub mod operations;
