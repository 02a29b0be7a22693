//! Which addresses are free for a network.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use crate::state::Network;

/// The addresses that are in use already.
#[derive(Debug)]
pub(super) struct Taken(Vec<(IpNetwork, Owner)>);

/// By whom.
#[derive(Clone, Debug)]
enum Owner {
    Network(String),
    /// This machine knows a way there.
    Route,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Network(name) => write!(f, "the network {name} has"),
            Owner::Route => write!(f, "this host has a route to"),
        }
    }
}

impl Taken {
    /// By networks that people made, and by the host's routes.
    pub(super) fn new(networks: &[Network], routes: &[IpNetwork]) -> Taken {
        let mut all = Vec::new();
        for it in networks {
            let owner = Owner::Network(it.name.clone());
            all.extend(it.subnet.map(|subnet| (subnet.into(), owner.clone())));
            all.extend(it.subnet6.map(|subnet| (subnet.into(), owner)));
        }
        all.extend(routes.iter().map(|route| (*route, Owner::Route)));
        Taken(all)
    }

    /// # Errors
    /// Somebody has a part of this subnet.
    pub(super) fn check(&self, wanted: IpNetwork) -> Result<()> {
        match self.0.iter().find(|(known, _)| overlap(*known, wanted)) {
            Some((known, owner)) => bail!(
                "Pool overlaps with other one on this address space: {wanted} is not free, {owner} \
                 {known}"
            ),
            None => Ok(()),
        }
    }

    /// The first of docker's own subnets that nobody has.
    ///
    /// # Errors
    /// Somebody has each of them.
    pub(super) fn free(&self) -> Result<Ipv4Network> {
        defaults()
            .find(|subnet| self.check((*subnet).into()).is_ok())
            .context(
                "all predefined address pools have been fully subnetted: give a --subnet that \
                 nobody has, or remove networks that nobody needs (`minidocker network prune`)",
            )
    }
}

/// 172.17.0.0/16 to 172.31.0.0/16, then the sixteen /20 of 192.168.0.0/16.
fn defaults() -> impl Iterator<Item = Ipv4Network> {
    let large = (17..=31).map(|n| (Ipv4Addr::new(172, n, 0, 0), 16));
    let small = (0..16).map(|n| (Ipv4Addr::new(192, 168, n * 16, 0), 20));
    large
        .chain(small)
        .filter_map(|(address, prefix)| Ipv4Network::new(address, prefix).ok())
}

/// A subnet of unique local addresses (RFC 4193) for a network: the forty bits that are to be random
/// are the first of its id.
pub(super) fn unique_local(id: &str) -> Result<Ipv6Network> {
    let digits = id.get(..10).unwrap_or_default();
    let random = u64::from_str_radix(digits, 16).context("a network's id has 64 digits")?;
    let address = (0xfd << 120) | (u128::from(random) << 80);
    Ok(Ipv6Network::new(Ipv6Addr::from(address), 64)?)
}

fn overlap(one: IpNetwork, two: IpNetwork) -> bool {
    one.contains(two.network()) || two.contains(one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, subnet: &str) -> Network {
        Network {
            subnet: subnet.parse().ok(),
            ..Network::new(String::new(), name)
        }
    }

    fn taken(networks: &[(&str, &str)], routes: &[&str]) -> Taken {
        let networks: Vec<_> = networks.iter().map(|(n, s)| network(n, s)).collect();
        let routes: Vec<_> = routes.iter().map(|it| it.parse().expect(it)).collect();
        Taken::new(&networks, &routes)
    }

    #[test]
    fn the_first_subnet_is_taken_that_neither_a_network_nor_a_route_has() {
        let free = |networks: &[(&str, &str)], routes: &[&str]| {
            let free = taken(networks, routes).free();
            free.map_or_else(|error| error.to_string(), |it| it.to_string())
        };
        assert_eq!(free(&[], &[]), "172.17.0.0/16");
        assert_eq!(free(&[("a", "172.17.0.0/16")], &[]), "172.18.0.0/16");
        assert_eq!(free(&[], &["172.16.0.0/14"]), "172.20.0.0/16");
        assert_eq!(free(&[], &["172.17.3.0/24"]), "172.18.0.0/16");
        assert_eq!(free(&[], &["172.16.0.0/12"]), "192.168.0.0/20");
        assert_eq!(
            free(&[("a", "192.168.5.0/24")], &["172.16.0.0/12"]),
            "192.168.16.0/20"
        );
        let none = free(&[("a", "192.168.0.0/16")], &["172.16.0.0/12"]);
        assert!(
            none.contains("all predefined address pools have been fully subnetted"),
            "{none}"
        );
    }

    #[test]
    fn who_has_a_subnet_is_named() {
        let taken = taken(&[("back", "10.1.0.0/16")], &["10.2.0.0/16", "fd00:1::/48"]);
        let said = |wanted: &str| {
            let checked = taken.check(wanted.parse().expect(wanted));
            checked.map_or_else(|error| error.to_string(), |()| "free".to_owned())
        };
        assert!(said("10.1.2.0/24").contains("the network back has 10.1.0.0/16"));
        assert!(said("10.0.0.0/8").contains("the network back has"));
        assert!(said("10.2.0.0/24").contains("this host has a route to 10.2.0.0/16"));
        assert!(said("fd00:1:0:7::/64").contains("fd00:1::/48"));
        assert_eq!(said("10.3.0.0/16"), "free");
        assert_eq!(said("fd00:2::/64"), "free");
    }

    #[test]
    fn a_unique_local_subnet_is_made_of_the_id() {
        let subnet = unique_local(&"0123456789abcdef".repeat(4)).expect("a subnet");
        assert_eq!(subnet.to_string(), "fd01:2345:6789::/64");
        assert!(unique_local("short").is_err());
    }
}
