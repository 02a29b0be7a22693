//! `minidocker`: docker's command line.

mod filters;
mod format;

fn main() {}
