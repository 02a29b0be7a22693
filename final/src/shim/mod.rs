//! The process that stays with a container: its parent, its listener, its witness.

pub mod log;
pub mod protocol;
