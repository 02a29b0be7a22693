//! `container prune`: away with those that don't run.

use anyhow::Result;

use super::{Containers, Removal};
use crate::engine::pruning::{Pruned, Restriction};
use crate::state::journal::{self, Event, Kind};

impl Containers {
    /// Removes those of the containers that don't run. One that has been started or removed meanwhile
    /// is none of them.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn prune(&self, only: &Restriction) -> Result<Pruned> {
        self.sweep();
        let mut stopped = self.list()?;
        stopped.retain(|it| {
            !it.life.status.needs_shim() && only.admits(Some(it.created), &it.config.labels)
        });
        let sizes = self.sizes(&stopped)?;
        let mut pruned = Pruned::default();
        for container in stopped {
            let damaged = container.version == 0;
            let how = Removal {
                force: damaged,
                volumes: false,
            };
            match self.remove(&container.id, how) {
                Ok(()) => {
                    pruned.freed += sizes.get(&container.id).copied().unwrap_or(0);
                    pruned.names.push(container.id);
                }
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        let event = Event::new(Kind::Container, "prune", "").with("reclaimed", pruned.freed);
        journal::tell(&self.dirs, &event);
        Ok(pruned)
    }
}
