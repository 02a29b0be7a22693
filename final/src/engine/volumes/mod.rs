//! The volumes of one user: what may happen to them, one file each.
//!
//! A volume is a directory ([`crate::state::LocalVolume`]). Nobody counts who uses it: the
//! containers say so in their states, and whoever wants to remove one reads these.

mod check;
mod create;
mod prune;
mod remove;
mod usage;

use anyhow::{Error, Result};
use cli::Dirs;

use crate::state::{LocalVolume, Missing};

pub use usage::VolumeUse;

/// The volumes of one user.
#[derive(Debug)]
pub struct Volumes {
    dirs: Dirs,
}

impl Volumes {
    /// Those in the directories.
    #[must_use]
    pub fn open(dirs: &Dirs) -> Volumes {
        Volumes { dirs: dirs.clone() }
    }

    /// The volume that is called so.
    ///
    /// # Errors
    /// There is none ([`Missing`]), or what is written of it is damaged.
    pub fn find(&self, name: &str) -> Result<LocalVolume> {
        let found = LocalVolume::read(&self.dirs, name)?;
        found.ok_or_else(|| missing(name))
    }

    /// All of them, by their names.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn list(&self) -> Result<Vec<LocalVolume>> {
        LocalVolume::all(&self.dirs)
    }

    /// Where people find its files, unless its options say otherwise.
    #[must_use]
    pub fn mountpoint(&self, volume: &LocalVolume) -> std::path::PathBuf {
        volume.place(&self.dirs).join("_data")
    }
}

fn missing(name: &str) -> Error {
    Missing(format!("get {name}: no such volume")).into()
}
