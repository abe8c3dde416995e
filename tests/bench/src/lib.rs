//! What the programs of this crate share: the pieces that are counted and timed one by one.

pub mod pieces;
