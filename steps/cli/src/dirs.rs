//! Where things are kept.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::unistd::{AccessFlags, access};

/// The two directories that outlive a process.
#[derive(Debug, Clone)]
pub struct Dirs {
    /// What outlives a reboot: images, the default rootfs.
    pub data: PathBuf,
    /// What a reboot may forget: leases and the files of live containers.
    pub run: PathBuf,
}

impl Dirs {
    /// Root keeps things in `/var/lib` and `/run`, anybody else at home, as
    /// the XDG base directory specification says. Root of a mere user namespace
    /// is somebody else, too, unless the files there are theirs.
    ///
    /// # Errors
    /// Fails where an ordinary user has neither `HOME` nor `XDG_DATA_HOME`.
    pub fn of_caller(privileged: bool) -> Result<Dirs> {
        if privileged && access("/var/lib", AccessFlags::W_OK).is_ok() {
            return Ok(Dirs {
                data: PathBuf::from("/var/lib/minidocker"),
                run: PathBuf::from("/run/minidocker"),
            });
        }
        let data = absolute("XDG_DATA_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".local/share")))
            .context("find a place for images: set HOME or XDG_DATA_HOME to an absolute path")?
            .join("minidocker");
        let run = absolute("XDG_RUNTIME_DIR")
            .map_or_else(|| data.join("run"), |dir| dir.join("minidocker"));
        Ok(Dirs { data, run })
    }
}

/// The specification tells us to ignore a relative path.
fn absolute(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}
