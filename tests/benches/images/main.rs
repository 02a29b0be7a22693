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

use anyhow::{Context, Result};
use harness::Setup;
use harness::bench::{build, rounds};
use harness::registry::{Registry, machine};

use contest::Contest;
use places::Place;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let Some(rounds) = rounds("images", 5) else {
        return Ok(());
    };
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

/// Removes a directory, if it is there.
fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
