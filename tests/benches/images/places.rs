//! Where the stores are that images are pulled to.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::Host;

/// A directory on the machine, for everybody's stores.
pub struct Place {
    /// For people.
    pub name: String,
    pub dir: &'static str,
}

/// A file system that is nobody else's: to write down all of a file system (syncfs(2)) means to wait
/// for what the rest of the machine has written to it, too. Past the page cache of the one below, as
/// a disk would have it.
const DISK: &str = r"
    fallocate -l 6G /run/workspace/disk/file
    mkfs.ext4 -q /run/workspace/disk/file
    device=$(losetup --find --show --direct-io=on /run/workspace/disk/file)
    mkdir /run/disk
    mount $device /run/disk
    # It stays until it is unmounted, and no longer.
    losetup --detach $device
";

impl Place {
    /// In memory.
    pub fn memory() -> Place {
        Place {
            name: "in memory (tmpfs)".to_owned(),
            dir: "/run/stores",
        }
    }

    /// On the disk on which the directory is that the machine has at `/run/workspace/disk`.
    pub fn disk(host: &Host, dir: &Path) -> Result<Place> {
        let below = file_system(dir)?;
        let made = host.run(["sh", "-euc", DISK]);
        if made.code() == 0 {
            return Ok(Place {
                name: format!("on a disk (ext4 of its own, on {below})"),
                dir: "/run/disk",
            });
        }
        println!("!! no file system of its own, but one of everybody's: {made}");
        Ok(Place {
            name: format!("on a disk ({below})"),
            dir: "/run/workspace/disk",
        })
    }
}

/// The device and the kind of the file system on which a directory is.
fn file_system(dir: &Path) -> Result<String> {
    let mut findmnt = Command::new("findmnt");
    findmnt.args(["--noheadings", "--output", "FSTYPE,SOURCE", "--target"]);
    let output = findmnt.arg(dir).output().context("run findmnt")?;
    ensure!(output.status.success(), "findmnt: {}", output.status);
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(words.split_whitespace().collect::<Vec<_>>().join(" "))
}
