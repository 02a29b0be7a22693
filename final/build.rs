//! How the programs are linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Not position-independent: the addresses in its constants, half a megabyte of them, would be
    // written at each start, and a shim that was forked off would have these pages for its own.
    println!("cargo:rustc-link-arg-bin=minidocker=-no-pie");
}
