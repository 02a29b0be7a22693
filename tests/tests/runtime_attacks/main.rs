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
use std::process::Command;

use harness::{Bundle, Host, build_dir};

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
    let program = dir.join(format!("{name}-{}", std::process::id()));
    let file = program.with_extension("c");
    std::fs::write(&file, source).expect("write a source file");
    let out = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror"])
        .args(options)
        .arg("-o")
        .args([&program, &file])
        .output()
        .expect("run cc (Debian: apt-get install gcc libc6-dev)");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {said}");
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
