//! The volumes of one user: what may happen to them, one file each.

use anyhow::Result;
use cli::Dirs;

/// The volumes of one user.
#[derive(Debug)]
pub struct Volumes {
    dirs: Dirs,
}

impl Volumes {
    /// Opens them.
    ///
    /// # Errors
    /// Their directory cannot be made.
    pub fn open(dirs: &Dirs) -> Result<Volumes> {
        Ok(Volumes { dirs: dirs.clone() })
    }

    /// Their directory.
    #[must_use]
    pub fn place(&self) -> std::path::PathBuf {
        self.dirs.data.join("volumes")
    }
}
