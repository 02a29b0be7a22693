//! The end of a container: nothing of it stays.

use anyhow::{Context, Result};
use cli::Dirs;
use images::Store;
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

use super::journal::{self, Event};
use super::{Locked, Names, Status, remove_anonymous};

impl Locked {
    /// Removes the container. Who does this must be the root of its files.
    ///
    /// Should it be given up halfway, the container is there, and says that it is being removed.
    ///
    /// # Errors
    /// Something of it cannot be removed.
    pub fn discard(&mut self, dirs: &Dirs) -> Result<()> {
        self.container.life.status = Status::Removing;
        // A full disk is a reason to remove something, and none to keep it.
        if let Err(error) = self.save() {
            tracing::debug!("{error:#}");
        }
        let id = &self.container.id;
        Names::open(dirs)?.give_back(&self.container.name, id)?;
        // In its shim's mount namespace the layers are still stacked, and what it shared is there.
        let mounted = ["merged", "shm"].map(|name| self.places.data.join(name));
        let parts = (0..self.container.mounts.len()).map(|n| self.places.subpath(n));
        for mounted in mounted.into_iter().chain(parts) {
            match umount2(&mounted, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::EPERM | Errno::ENOENT) => {}
                Err(errno) => return Err(errno).context("unmount what the container saw"),
            }
        }
        self.places.forget()?;
        if self.container.host.auto_remove {
            remove_anonymous(dirs, &self.container)?;
        }
        Store::open(&dirs.data)?.discard_container(id)?;
        journal::tell(dirs, &Event::of(&self.container, "destroy"));
        Ok(())
    }
}
