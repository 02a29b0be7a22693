//! The process that stays with a container: its parent, its listener, its witness.

pub mod network;
pub mod protocol;
