//! Daemons that the suites need: Debian's docker and containerd, which call an OCI runtime,
//! and its registry.
//!
//! They are unpacked, not installed: installed, they would be started at once,
//! and change the firewall of the machine on which somebody runs the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::call::call;
use crate::system::{Freight, find};

/// docker-init is tini, and podman's is catatonit.
const PACKAGES: [&str; 5] = [
    "docker.io",
    "containerd",
    "tini",
    "catatonit",
    "docker-registry",
];

/// Those of their programs for which the virtual machine has room: the kernel keeps
/// what it unpacks in half of the memory that the archive leaves.
const PROGRAMS: [&str; 4] = [
    "usr/bin/containerd",
    "usr/bin/containerd-shim-runc-v2",
    "usr/bin/docker",
    "usr/sbin/dockerd",
];

/// The file that says of which packages a directory is made.
const LIST: &str = "packages";

/// Where they are unpacked.
fn dir() -> Result<PathBuf> {
    Ok(crate::target_dir()?.join("clients"))
}

/// Makes `target/clients` where it is not there yet, or was made of other packages.
pub fn ensure() -> Result<()> {
    let dir = dir()?;
    let list = PACKAGES.join("\n");
    if fs::read_to_string(dir.join(LIST)).is_ok_and(|made_of| made_of == list) {
        println!("{} is there", dir.display());
        return Ok(());
    }
    if dir.exists() {
        fs::remove_dir_all(&dir).with_context(|| format!("remove {}", dir.display()))?;
    }
    let part = dir.with_extension("part");
    if part.exists() {
        fs::remove_dir_all(&part).with_context(|| format!("remove {}", part.display()))?;
    }
    let packed = part.join("packed");
    fs::create_dir_all(&packed).with_context(|| format!("create {}", packed.display()))?;
    // The lists may be old or absent: then once more, with new ones.
    if download(&packed).is_err() {
        call(Command::new("apt-get").args(["update", "--quiet"]))?;
        download(&packed)?;
    }
    for package in fs::read_dir(&packed)? {
        call(
            Command::new("dpkg")
                .arg("-x")
                .arg(package?.path())
                .arg(&part),
        )?;
    }
    fs::remove_dir_all(&packed).context("remove the packages")?;
    fs::write(part.join(LIST), list).context("write down of what the clients are made")?;
    fs::rename(&part, &dir).context("keep the unpacked clients")
}

/// The path of one of their programs: the machine's own, or an unpacked one.
pub fn program(name: &str) -> Result<PathBuf> {
    if let Some(own) = find(name) {
        return Ok(own);
    }
    ensure()?;
    Ok(dir()?.join("usr/bin").join(name))
}

fn download(into: &Path) -> Result<()> {
    let mut apt = Command::new("apt-get");
    // apt's own user cannot write to this directory, and need not.
    apt.args(["-q", "-o", "APT::Sandbox::User=root", "download"]);
    call(apt.args(PACKAGES).current_dir(into)).map(drop)
}

/// What a virtual machine gets in which clients run, podman included.
pub fn freight() -> Result<Freight> {
    let dir = dir()?;
    Ok(Freight {
        private: PROGRAMS
            .iter()
            .map(|name| (dir.join(name), Path::new("/clients").join(name)))
            .collect(),
        // Without runc dockerd does not start, whatever it is told to use.
        programs: ["podman", "conmon", "runc"]
            .into_iter()
            .filter_map(find)
            .collect(),
        // The seccomp profile of podman's containers.
        directories: vec![PathBuf::from("/usr/share/containers")],
        own: &["machine", "minirunc"],
        ..Freight::default()
    })
}
