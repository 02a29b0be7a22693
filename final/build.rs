//! How the programs are linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Not position-independent: the addresses in its constants, half a megabyte of them, would be
    // written at each start, and a shim that was forked off would have these pages for its own.
    println!("cargo:rustc-link-arg-bin=minidocker=-no-pie");
    // What unwinds the stack comes with the program: a library of its own would have to be found,
    // mapped and relocated at each start, which takes a tenth of a millisecond.
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|libc| libc == "gnu") {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
