//! `volume rm`: a directory, and all that is in it.

use anyhow::{Result, bail, ensure};
use namespaces::as_root;

use super::{Volumes, missing};
use crate::state::{Alone, volume_place};

impl Volumes {
    /// Removes a volume that no container has, whether it runs or not.
    ///
    /// # Errors
    /// There is no such volume ([`Missing`](crate::state::Missing)), a container has it, or something of it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<()> {
        let alone = Alone::wait(&self.dirs)?;
        ensure!(
            crate::state::is_name(name) && volume_place(&self.dirs, name).is_dir(),
            missing(name)
        );
        if let Some(ids) = alone.users.get(name) {
            bail!("remove {name}: volume is in use - [{}]", ids.join(", "));
        }
        let leaving = alone.take_out(&[name])?;
        as_root(|| leaving.remove())
    }
}
