//! A leaf.
