//! The containers of one user: what may happen to them, one file each.

use anyhow::Result;
use cli::Dirs;

use crate::state::{Container, Names};

/// The containers of one user.
#[derive(Debug)]
pub struct Containers {
    dirs: Dirs,
    names: Names,
}

impl Containers {
    /// Opens them.
    ///
    /// # Errors
    /// Their directories cannot be made.
    pub fn open(dirs: &Dirs) -> Result<Containers> {
        Ok(Containers {
            dirs: dirs.clone(),
            names: Names::open(dirs)?,
        })
    }
}
