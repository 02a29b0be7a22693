//! Attacks that runtimes have fallen to, tried on this one: those of processes
//! in a container, and those of whoever made its image or shares a volume.
//!
//! Each file is one way out. `MINIRUNC=/usr/sbin/runc` tries them on another
//! runtime; older releases fall to some.

mod descriptors;
mod devices;
mod joining;
mod links;
mod own_program;
mod privileges;
mod procfs;
mod secrets;
mod terminal;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{Bundle, Host, build_dir, compile_c};

/// Compiles a program, static, and puts it into the bundle's root as /bin/NAME.
fn plant(bundle: &Bundle, name: &str, source: &str) {
    let program = compile(name, source, &["-static"]);
    let at = bundle.path(&format!("/bin/{name}"));
    std::fs::copy(program, at).expect("write to the machine's memory");
}

/// Compiles a program of C.
fn compile(name: &str, source: &str, options: &[&str]) -> PathBuf {
    let dir = build_dir().join("attacks");
    std::fs::create_dir_all(&dir).expect("make a directory beside the programs");
    // Several tests make one of this name at the same time.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let program = dir.join(format!("{name}-{}-{number}", std::process::id()));
    let strict = ["-Wall", "-Wextra", "-Werror"];
    compile_c(&program, source, strict.iter().chain(options));
    program
}

/// A file of the host's that no container was given.
const SECRET: &str = "/tmp/secret-of-the-host";

/// A host with such a file.
fn host() -> Host {
    let host = Host::new();
    host.shell(&format!("echo SECRET >{SECRET}"));
    host
}
