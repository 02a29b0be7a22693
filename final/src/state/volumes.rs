//! Volumes: directories that outlive the containers that see them.
//!
//! ```text
//! DATA/volumes/NAME/           locked (flock) by whoever fills it
//!     _data/                     what is mounted
//!     filling                    the image's files are not all in it yet
//! ```

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};
use cli::Dirs;

use super::Volume;

/// The directory of the volume that is called so.
#[must_use]
pub fn volume_place(dirs: &Dirs, name: &str) -> PathBuf {
    dirs.data.join("volumes").join(name)
}

/// Removes those that were made for one container alone. Whoever does it must be the root of their
/// files.
///
/// # Errors
/// What the file system refuses.
pub fn remove_anonymous(dirs: &Dirs, mounts: &[Volume]) -> Result<()> {
    for mount in mounts.iter().filter(|mount| mount.anonymous) {
        let place = volume_place(dirs, &mount.name);
        match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", place.display()));
            }
            _ => {}
        }
    }
    Ok(())
}
