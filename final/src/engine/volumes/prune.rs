//! `volume prune`: away with those that no container has.

use anyhow::Result;
use namespaces::as_root;

use super::Volumes;
use crate::engine::containers::Containers;
use crate::engine::pruning::{Pruned, Pruning};
use crate::state::Alone;
use crate::state::journal::{self, Event, Kind};

impl Volumes {
    /// Removes volumes.
    ///
    /// # Errors
    /// A container's state is damaged, so that nobody knows what it needs; or what the file system
    /// refuses.
    pub fn prune(&self, which: &Pruning) -> Result<Pruned> {
        // Those that `--rm` would have removed, had nobody killed their shims, are no users.
        Containers::open(&self.dirs)?.list()?;
        let mut spare = self.list()?;
        spare.retain(|it| {
            (which.all || it.is_anonymous()) && which.only.admits(Some(it.created), &it.labels)
        });
        let sizes = self.sizes(&spare)?;
        let alone = Alone::wait(&self.dirs)?;
        spare.retain(|it| !alone.users.contains_key(&it.name) && self.find(&it.name).is_ok());
        let names: Vec<&str> = spare.iter().map(|it| it.name.as_str()).collect();
        let leaving = alone.take_out(&names)?;
        as_root(|| leaving.remove())?;
        let freed = names.iter().filter_map(|name| sizes.get(*name)).sum();
        let event = Event::new(Kind::Volume, "prune", "").with("reclaimed", freed);
        journal::tell(&self.dirs, &event);
        Ok(Pruned {
            names: spare.into_iter().map(|it| it.name).collect(),
            freed,
        })
    }
}
