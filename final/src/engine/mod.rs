//! What exists and what may happen to it, in files that any command may read and change.

mod answer;
mod checkup;
pub mod containers;
pub mod images;
pub mod lexical;
pub mod machine;
pub mod networks;
pub mod pruning;
pub mod registries;
pub mod volumes;
