//! `cargo bench -- images`: what it costs to pull an image and to load one, against others who do:
//! skopeo and umoci together, podman, docker.
//!
//! Each round lets everybody do the same in turn, in the same minute on the same machine, into a
//! store that was emptied and written to the disk before; what is compared is the ratio of each
//! round. The registry is Debian's, on loopback; its answers come from memory. A number after the
//! dashes is the number of rounds; `memory` or `disk` measures there alone. It wants what `cargo lab
//! test` has made: Debian's docker and registry.

mod contest;
mod measure;
mod places;
mod samples;
mod subjects;
mod table;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness::Setup;
use harness::registry::{Registry, machine};

use contest::Contest;
use places::Place;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    // It takes minutes: only where it is meant.
    if !args.iter().any(|arg| arg == "images") {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() {
        println!("cargo bench makes namespaces of its own, and has to be run as root");
        return Ok(());
    }
    let rounds = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(5);
    build();
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("images");
    let samples = samples::make(&scratch)?;
    let disk = scratch.join("disk");
    remove(&disk)?;
    fs::create_dir_all(&disk)?;
    let host = machine(Setup {
        shown: vec![
            (samples, "samples".to_owned()),
            (disk.clone(), "disk".to_owned()),
        ],
        ..Setup::default()
    });
    subjects::prepare(&host)?;
    let registry = Registry::open(&host);
    for sample in samples::all() {
        registry.fill("/run/workspace/samples/layout", sample.name, sample.name);
    }
    let only = |word: &str| args.iter().any(|arg| arg == word);
    if !only("disk") {
        Contest::at(&Place::memory(), &host, &registry, rounds)?;
    }
    if !only("memory") {
        Contest::at(&Place::disk(&host, &disk)?, &host, &registry, rounds)?;
    }
    drop(registry);
    drop(host);
    remove(&disk)
}

/// `cargo bench` builds this program only, and the test programs beside it.
fn build() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--package", "final", "--quiet"]);
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cargo.status().is_ok_and(|status| status.success()) {
        println!("!! {cargo:?} fails, and what lies there of an earlier build is measured");
    }
}

/// Removes a directory, if it is there.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
