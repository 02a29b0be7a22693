//! A leaf.

pub mod host;
mod libraries;
