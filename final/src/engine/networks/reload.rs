//! `network reload`: what a firewall, or somebody else, took away is made anew.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::Networks;
use crate::engine::containers::Containers;
use crate::shim;

impl Networks {
    /// Makes the bridges, the cables and the rules of containers' networks anew where they are gone;
    /// without a name, those of all that run. Answers the containers' ids.
    ///
    /// # Errors
    /// One of them does not run, or what the kernel refuses.
    pub fn reload(&self, names: &[String]) -> Result<Vec<String>> {
        let containers = Containers::open(&self.dirs)?;
        let mut meant = Vec::new();
        for name in names {
            let container = containers.find(name)?;
            ensure!(
                container.life.status.needs_shim(),
                "container {name} is not running"
            );
            meant.push(container);
        }
        if names.is_empty() {
            meant = containers.list()?;
            meant.retain(|it| it.life.status.needs_shim() && !it.life.networks.is_empty());
        }
        let networks: BTreeSet<&String> = meant
            .iter()
            .flat_map(|it| it.life.networks.keys())
            .collect();
        shim::within_networks(&self.dirs, || {
            for name in &networks {
                self.find(name)?.bridge(&self.dirs)?.rebuild()?;
            }
            Ok(String::new())
        })?;
        Ok(meant.into_iter().map(|it| it.id).collect())
    }
}
