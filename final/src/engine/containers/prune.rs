//! `container prune`: away with those that don't run.

use anyhow::Result;
use jiff::Timestamp;

use super::{Containers, Removal};
use crate::engine::images::Label;
use crate::state::Container;
use crate::state::journal::{self, Event, Kind};

/// Which containers go, of those that don't run.
#[derive(Clone, Debug, Default)]
pub struct Pruning {
    /// Only those that were created until then.
    pub until: Option<Timestamp>,
    /// Only those that have all these labels.
    pub labels: Vec<Label>,
    /// None that has all of these.
    pub but: Vec<Label>,
}

/// What went.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The containers' ids.
    pub ids: Vec<String>,
    /// The bytes of the files that they had written.
    pub freed: u64,
}

impl Pruning {
    fn concerns(&self, container: &Container) -> bool {
        let labels = &container.config.labels;
        let has = |wanted: &[Label]| wanted.iter().all(|label| label.is_among(labels));
        !container.life.status.needs_shim()
            && self.until.is_none_or(|until| container.created <= until)
            && has(&self.labels)
            && (self.but.is_empty() || !has(&self.but))
    }
}

impl Containers {
    /// Removes containers. One that has been started or removed meanwhile is none of them.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn prune(&self, which: &Pruning) -> Result<Pruned> {
        let mut stopped = self.list()?;
        stopped.retain(|container| which.concerns(container));
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
                    pruned.ids.push(container.id);
                }
                Err(error) => tracing::warn!("{error:#}"),
            }
        }
        let event = Event::new(Kind::Container, "prune", "").with("reclaimed", pruned.freed);
        journal::tell(&self.dirs, &event);
        Ok(pruned)
    }
}
