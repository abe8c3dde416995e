//! The actors of Windlass: who runs, who waits, who answers. Knows no concrete operation and no configuration file.

pub mod operation;
pub mod settings;
pub mod units;

pub(crate) mod dispatch;
