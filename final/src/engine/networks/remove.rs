//! `network rm`.

use anyhow::{Result, ensure};

use super::Networks;
use crate::shim;
use crate::state::journal;
use crate::state::{Changing, Network, remove_directory};

impl Networks {
    /// Removes a network. Containers that don't run and are configured for it do not hinder: they
    /// cannot be started, until there is one of that name again.
    ///
    /// # Errors
    /// A container is in it, or nobody made it.
    pub fn remove(&self, what: &str) -> Result<()> {
        let network = self.find(what)?;
        ensure!(
            !network.is_predefined(),
            "{} is a pre-defined network and cannot be removed",
            network.name
        );
        let members = self.members(&network)?;
        let changing = Changing::begin(&self.dirs)?;
        // Another was faster; or somebody else took the name.
        let network = self.find(&network.id)?;
        let members = members
            .iter()
            .map(|it| format!("name:{:?} id:\"{}\"", it.name, it.short_id()));
        let members: Vec<String> = members.collect();
        ensure!(
            members.is_empty() && !self.is_inhabited(&network)?,
            "error while removing network: network {} id {} has active endpoints ({})",
            network.name,
            network.id,
            members.join(", ")
        );
        self.forget(&changing, &network)
    }

    /// Whether a container is in it, or about to be. Asked with the networks' lock, which a container
    /// that starts waits for with its own: no container's may be waited for then.
    pub(super) fn is_inhabited(&self, network: &Network) -> Result<bool> {
        Ok(!network.bridge(&self.dirs)?.residents()?.is_empty())
    }

    /// Removes one that nobody is in.
    pub(super) fn forget(&self, changing: &Changing, network: &Network) -> Result<()> {
        // The bridge goes by the network's file, if killed containers have left it.
        shim::sweep_network(&self.dirs)?;
        changing.remove(network)?;
        let known = self.dirs.run.join("network").join(network.link());
        remove_directory(&known)?;
        journal::tell(&self.dirs, &network.event("destroy"));
        Ok(())
    }
}
