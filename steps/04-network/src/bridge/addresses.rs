//! Which address a container gets.

use std::collections::HashSet;
use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::{Bridge, host_end};
use crate::leases::{Place, Record};
use crate::links;

impl Bridge {
    /// An address that nobody has: the wanted one, or the first of the range.
    pub(super) fn pick(
        &self,
        place: &Place,
        living: &[Record],
        wanted: Option<Ipv4Addr>,
    ) -> Result<Ipv4Addr> {
        let subnet = place.gateway;
        let taken: HashSet<_> = living.iter().map(|other| other.address).collect();
        let is_free = |address: &Ipv4Addr| {
            is_for_hosts(subnet, *address)
                && *address != subnet.ip()
                && !taken.contains(address)
                && !self.spared.contains(&IpAddr::from(*address))
                // Its lease was lost, but somebody lives there.
                && !links::exists(&host_end(*address))
        };
        let range = self.shape.range.unwrap_or(subnet);
        match wanted {
            Some(wanted) => in_subnet(wanted, Some(subnet.into()), is_free(&wanted)),
            None => range.iter().find(is_free).with_context(|| none_left(range)),
        }
    }

    /// An IPv6 address that nobody has: the wanted one, or the one of the same number in its subnet as
    /// the IPv4 address in its own, or the first of the range.
    pub(super) fn pick_six(
        &self,
        place: &Place,
        living: &[Record],
        address: Ipv4Addr,
        wanted: Option<Ipv6Addr>,
    ) -> Result<Option<Ipv6Addr>> {
        let Some(subnet) = place.six else {
            return wanted
                .map(|wanted| in_subnet(wanted, None, false))
                .transpose();
        };
        let entries = living.iter().flat_map(Record::read);
        let taken: HashSet<_> = entries.filter_map(|entry| entry.six).collect();
        let is_free = |address: &Ipv6Addr| {
            subnet.contains(*address)
                && ![subnet.network(), subnet.ip()].contains(address)
                && !taken.contains(address)
                && !self.spared.contains(&IpAddr::from(*address))
        };
        if let Some(wanted) = wanted {
            return in_subnet(wanted, Some(subnet.into()), is_free(&wanted)).map(Some);
        }
        let number = u32::from(address) - u32::from(place.gateway.network());
        let alike = Ipv6Addr::from(u128::from(subnet.network()) | u128::from(number));
        let range = self.shape.range6.unwrap_or(subnet);
        iter::once(alike)
            .filter(|alike| range.contains(*alike))
            .chain(range.iter())
            .find(is_free)
            .map(Some)
            .with_context(|| none_left(range))
    }
}

/// The wanted address, if it is one of the subnet's that nobody has.
fn in_subnet<A: Copy + Into<IpAddr>>(
    wanted: A,
    subnet: Option<IpNetwork>,
    is_free: bool,
) -> Result<A> {
    let shown = wanted.into();
    ensure!(
        subnet.is_some_and(|subnet| subnet.contains(shown)),
        "no configured subnet or ip-range contain the IP address {shown}"
    );
    ensure!(is_free, "Address already in use: {shown}");
    Ok(wanted)
}

fn none_left(range: impl Into<IpNetwork>) -> String {
    let range = range.into();
    let version = if range.is_ipv4() { "IPv4" } else { "IPv6" };
    format!(
        "no available {version} addresses on this network's address pools: every address of \
         {}/{} is taken by a container",
        range.network(),
        range.prefix()
    )
}

/// Whether a host can have the address: it is neither the subnet's own nor its broadcast.
pub(super) fn is_for_hosts(subnet: Ipv4Network, address: Ipv4Addr) -> bool {
    subnet.contains(address) && address != subnet.network() && address != subnet.broadcast()
}

/// The host's IPv6 address: that one, or the first where the subnet is named.
pub(super) fn first_of_six(subnet: Ipv6Network) -> Result<Ipv6Network> {
    if subnet.ip() != subnet.network() {
        return Ok(subnet);
    }
    let first = Ipv6Addr::from(u128::from(subnet.network()) + 1);
    Ok(Ipv6Network::new(first, subnet.prefix())?)
}
