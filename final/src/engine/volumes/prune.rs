//! `volume prune`: away with those that no container has.

use anyhow::Result;
use namespaces::as_root;

use super::Volumes;
use crate::engine::containers::Containers;
use crate::engine::restriction::Restriction;
use crate::state::journal::{self, Event, Kind};
use crate::state::{Alone, LocalVolume};

/// Which volumes go, of those that no container has.
#[derive(Clone, Debug, Default)]
pub struct Pruning {
    /// Those with names, too.
    pub all: bool,
    /// Of these only some.
    pub only: Restriction,
}

/// What went.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The volumes' names.
    pub names: Vec<String>,
    /// The bytes of the files that were in them.
    pub freed: u64,
}

impl Pruning {
    fn concerns(&self, volume: &LocalVolume) -> bool {
        (self.all || volume.is_anonymous())
            && self.only.admits(Some(volume.created), &volume.labels)
    }
}

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
        spare.retain(|it| which.concerns(it));
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
