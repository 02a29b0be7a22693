//! `network prune`: away with those that nobody is in.

use anyhow::Result;

use super::{Networks, is_in};
use crate::engine::containers::Containers;
use crate::engine::pruning::Restriction;
use crate::state::journal::{self, Event, Kind};
use crate::state::{Changing, Network};

impl Networks {
    /// Removes those of the networks that people made and no container is in; answers their names.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn prune(&self, only: &Restriction) -> Result<Vec<String>> {
        let mut containers = Containers::open(&self.dirs)?.list()?;
        containers.retain(|it| it.life.status.needs_shim());
        let changing = Changing::begin(&self.dirs)?;
        let mut pruned = Vec::new();
        for network in Network::all(&self.dirs)? {
            if !only.admits(Some(network.created), &network.labels)
                || containers.iter().any(|it| is_in(it, &network))
                || self.is_inhabited(&network)?
            {
                continue;
            }
            match self.forget(&changing, &network) {
                Ok(()) => pruned.push(network.name),
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        let event = Event::new(Kind::Network, "prune", "").with("reclaimed", 0);
        journal::tell(&self.dirs, &event);
        Ok(pruned)
    }
}
