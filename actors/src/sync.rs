//! The shared-memory primitives of the bridge. A test build with `--cfg windlass_loom` replaces them, and so explores
//! every order in which the real modules can meet.

#[cfg(not(windlass_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};

#[cfg(windlass_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
