//! The networks of one user: what may happen to them, one file each.
//!
//! Like a container a network is a file ([`crate::state::Network`]), and there is nothing else of it
//! while no container is in it. Who makes its bridge, and takes it down after the last, are the
//! containers' shims.

mod connect;
mod create;
mod disconnect;
mod pools;
mod prune;
mod reload;
mod remove;

use std::mem;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use cli::Dirs;
use ipnetwork::{IpNetwork, Ipv4Network};
use network::Carrier;

use super::containers::Containers;
use crate::state::{Container, HostConfig, Network, Wanted};

pub use create::Wish;

/// The networks of one user.
#[derive(Debug)]
pub struct Networks {
    dirs: Dirs,
}

impl Networks {
    /// Opens them.
    #[must_use]
    pub fn open(dirs: &Dirs) -> Networks {
        Networks { dirs: dirs.clone() }
    }

    /// All of them by their names, those too that nobody made.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn list(&self) -> Result<Vec<Network>> {
        let mut all = Network::all(&self.dirs)?;
        for network in Network::predefined() {
            all.push(self.placed(network)?);
        }
        all.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(all)
    }

    /// The network of a name, an id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, what: &str) -> Result<Network> {
        self.placed(Network::find(&self.dirs, what)?)
    }

    /// The same, with the subnet that the default network has, or would have, at the moment.
    fn placed(&self, mut network: Network) -> Result<Network> {
        if network.name == Network::DEFAULT {
            let gateway = match network::is_privileged()? {
                true => network.bridge(&self.dirs)?.gateway()?,
                false => Ipv4Network::new(Carrier::GATEWAY, Carrier::PREFIX)?,
            };
            network.gateway = Some(gateway.ip());
            network.subnet = Some(Ipv4Network::new(gateway.network(), gateway.prefix())?);
        }
        Ok(network)
    }

    /// The containers that are in it at the moment.
    ///
    /// # Errors
    /// The containers cannot be listed.
    pub fn members(&self, network: &Network) -> Result<Vec<Container>> {
        let mut all = Containers::open(&self.dirs)?.list()?;
        all.retain(|it| it.life.status.needs_shim() && is_in(it, network));
        Ok(all)
    }
}

/// Whether a container that runs is in a network.
fn is_in(container: &Container, network: &Network) -> bool {
    match network.name.as_str() {
        name @ ("host" | "none") => container.host.is_in(name),
        name => container.life.networks.contains_key(name),
    }
}

/// Calls the networks of a container that is to be by their names. One that is not there stays as it
/// was written, and is missed when the container starts, as with docker.
///
/// # Errors
/// The container cannot be what it is to be in one of them.
pub(super) fn resolve(dirs: &Dirs, host: &mut HostConfig) -> Result<()> {
    let mode = host.network_mode.clone();
    if let Ok(network) = Network::find(dirs, &mode) {
        host.network_mode = network.name;
    }
    for (what, wanted) in mem::take(&mut host.networks) {
        let mut name = what;
        if let Ok(network) = Network::find(dirs, &name) {
            check(&network, &wanted)?;
            name = network.name;
        }
        let before = host.networks.insert(name.clone(), wanted);
        ensure!(
            before.is_none(),
            "network {name:?} is specified multiple times"
        );
    }
    if host.network_mode == "none" {
        host.networks.entry(host.network_mode.clone()).or_default();
    }
    Ok(())
}

/// # Errors
/// A container cannot be that in this network: docker's rules, in its words.
pub(super) fn check(network: &Network, wanted: &Wanted) -> Result<()> {
    let made = !network.is_predefined();
    ensure!(
        made || wanted.aliases.is_empty(),
        "network-scoped alias is supported only for containers in user defined networks"
    );
    for (asked, subnet, chosen) in [
        (
            wanted.address.map(IpAddr::from),
            network.subnet.map(IpNetwork::from),
            network.chosen,
        ),
        (
            wanted.six.map(IpAddr::from),
            network.subnet6.map(IpNetwork::from),
            network.chosen6,
        ),
    ] {
        let Some(asked) = asked else { continue };
        ensure!(
            made,
            "user specified IP address is supported on user defined networks only"
        );
        ensure!(
            chosen,
            "user specified IP address is supported only when connecting to networks with user \
             configured subnets"
        );
        ensure!(
            subnet.is_some_and(|subnet| subnet.contains(asked)),
            "no configured subnet or ip-range contain the IP address {asked}"
        );
    }
    Ok(())
}
