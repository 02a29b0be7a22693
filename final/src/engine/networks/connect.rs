//! `network connect`.

use anyhow::{Result, bail, ensure};

use super::{Networks, check};
use crate::engine::containers::Containers;
use crate::shim::protocol::Request;
use crate::state::{HostConfig, Network, Wanted};

impl Networks {
    /// Puts a container into one more network: at once, if it runs, and from its next start on, if
    /// not.
    ///
    /// # Errors
    /// It is in it already, or cannot be.
    pub fn connect(&self, network: &str, container: &str, wanted: Wanted) -> Result<()> {
        let containers = Containers::open(&self.dirs)?;
        let mut locked = containers.lock(container)?;
        let held = Network::hold(&self.dirs)?;
        let network = self.find(network)?;
        check_together(&locked.container.host, &network)?;
        check(&network, &wanted)?;
        let name = network.name;
        if !locked.container.life.status.has_processes() {
            locked.container.host.join(&name, wanted);
            return locked.save();
        }
        ensure!(
            !locked.container.life.networks.contains_key(&name),
            "endpoint with name {} already exists in network {name}",
            locked.container.name
        );
        let container = locked.container.clone();
        // The shim needs both.
        drop((locked, held));
        let request = Request::Connect {
            network: name,
            wanted,
        };
        containers.ask(&container, &request)
    }
}

/// # Errors
/// What the container is connected to already and this network do not go together.
fn check_together(host: &HostConfig, network: &Network) -> Result<()> {
    let mode = host.network_mode.as_str();
    match network.name.as_str() {
        name if name == mode && matches!(name, "host" | "none") => {
            bail!("container is connected to network {name} already")
        }
        "host" => {
            bail!("container cannot be disconnected from host network or connected to host network")
        }
        "none" if host.network_names().is_empty() && mode == "none" => Ok(()),
        _ if mode == "host" || mode.starts_with("container:") => bail!(
            "container sharing network namespace with another container or host cannot be \
             connected to any other network"
        ),
        name if name == "none" || host.is_in_none() => bail!(
            "container cannot be connected to multiple networks with one of the networks in \
             private (none) mode"
        ),
        _ => Ok(()),
    }
}
