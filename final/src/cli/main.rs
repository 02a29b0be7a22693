//! `minidocker`: docker's command line.

fn main() {}
