//! `minidocker`: docker's command line.

mod filters;
mod format;
mod progress;
mod stage;

fn main() {}
