//! The operations of the daemon, one file each.
