//! What the benchmarks have in common: how they are asked for, who competes, and what is reached.

pub mod subjects;

use std::env;
use std::process::Command;

use nix::unistd::geteuid;

/// What a measurement is held against.
pub struct Goal {
    what: String,
    value: f64,
    most: f64,
}

impl Goal {
    /// What was measured, what it came to, and what it may come to.
    #[must_use]
    pub fn new(what: impl Into<String>, value: f64, most: f64) -> Goal {
        let what = what.into();
        Goal { what, value, most }
    }

    /// Says whether it was reached.
    pub fn tell(&self) {
        let Goal { what, value, most } = self;
        let verdict = if value <= most { "ok" } else { "!!" };
        println!("{verdict} {what}: {value:.3}, goal {most:.3}");
    }
}

/// How many rounds this process' command line asks for, `usual` where it gives no number; nothing,
/// where it is not the benchmark `name` that is meant (each takes minutes), or where it cannot be
/// run.
#[must_use]
pub fn rounds(name: &str, usual: usize) -> Option<usize> {
    let args: Vec<String> = env::args().skip(1).collect();
    if !args.iter().any(|arg| arg == name) {
        return None;
    }
    if !geteuid().is_root() {
        println!("cargo bench makes namespaces of its own, and has to be run as root");
        return None;
    }
    let asked = args.iter().find_map(|arg| arg.parse().ok());
    Some(asked.unwrap_or(usual))
}

/// `cargo bench` builds this program only, and the test programs beside it. `MINIDOCKER=…` puts
/// another program in the place of ours.
pub fn build() {
    if env::var_os("MINIDOCKER").is_some() {
        return;
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--package", "final", "--quiet"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status().is_ok_and(|status| status.success()) {
        println!("!! {cargo:?} fails, and what lies there of an earlier build is measured");
    }
}
