//! What exists and what may happen to it.

pub mod images;
