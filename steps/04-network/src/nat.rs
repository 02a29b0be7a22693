//! The rules: who is turned into whom on the way through the host.
//!
//! ```text
//! table ip minidocker-mini0           one for the bridge
//!   guard        prerouting, raw      mini0 -> 127.0.0.0/8                  drop
//!   forward      forward, filter      elsewhere -> mini0, not published     drop
//!   postrouting  postrouting, srcnat  subnet -> elsewhere                   masquerade
//!                                     subnet -> subnet by a published port  masquerade
//!                                     127.0.0.0/8 -> mini0                  masquerade
//! table ip minidocker-mini0-10.88.0.2 one for each container that publishes a port
//!   prerouting   prerouting, dstnat   to this host, tcp 8080                dnat to 10.88.0.2:80
//!   output       output, dstnat       the same, for programs of the host itself
//! ```
//!
//! Both are ours alone; a table leaves with all that is in it, and nobody else's rule is read or
//! changed.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;

use anyhow::Result;
use ipnetwork::Ipv4Network;

use crate::nft::{Batch, Chain, forward_chains_that_drop, has_table};
use crate::publish::Publish;
use crate::rule::{IS, IS_NOT, Rule};

// Hooks and priorities: linux/netfilter.h (NF_INET_*) and linux/netfilter_ipv4.h (NF_IP_PRI_*).
const GUARD: Chain = Chain {
    name: "guard",
    kind: "filter",
    hook: libc::NF_INET_PRE_ROUTING,
    priority: libc::NF_IP_PRI_RAW,
};
const FORWARD: Chain = Chain {
    name: "forward",
    kind: "filter",
    hook: libc::NF_INET_FORWARD,
    priority: libc::NF_IP_PRI_FILTER,
};
const POSTROUTING: Chain = Chain {
    name: "postrouting",
    kind: "nat",
    hook: libc::NF_INET_POST_ROUTING,
    priority: libc::NF_IP_PRI_NAT_SRC,
};
const PREROUTING: Chain = Chain {
    name: "prerouting",
    kind: "nat",
    hook: libc::NF_INET_PRE_ROUTING,
    priority: libc::NF_IP_PRI_NAT_DST,
};
const OUTPUT: Chain = Chain {
    name: "output",
    kind: "nat",
    hook: libc::NF_INET_LOCAL_OUT,
    priority: libc::NF_IP_PRI_NAT_DST,
};

/// The name of a bridge's table.
pub(crate) fn bridge_table(bridge: &str) -> String {
    format!("minidocker-{bridge}")
}

/// The name of the table of a container's ports.
pub(crate) fn container_table(bridge: &str, address: Ipv4Addr) -> String {
    format!("{}-{address}", bridge_table(bridge))
}

/// Makes the bridge's table where it is missing. It is looked for each time: a firewall that was
/// restarted (`flush ruleset`) took ours along with its own.
pub(crate) fn serve_bridge(bridge: &str, subnet: Ipv4Network) -> Result<()> {
    // task 04.4 {
    let table = &bridge_table(bridge);
    if has_table(table)? {
        return Ok(());
    }
    warn_of_firewalls(bridge)?;
    let loopback = Ipv4Network::new(Ipv4Addr::new(127, 0, 0, 0), 8)?;
    let mut batch = Batch::new();
    batch.table(table, &format!("minidocker: network {bridge}"));
    for chain in [GUARD, FORWARD, POSTROUTING] {
        batch.chain(table, chain);
    }
    batch.rule(table, GUARD, &no_way_to_loopback(bridge, loopback));
    batch.rule(table, FORWARD, &no_way_but_published(bridge));
    let out = Rule::new("containers leave with the host's address, answers find back")
        .source_in(subnet)
        .leaves(IS_NOT, bridge)
        .masquerade();
    // Otherwise the answer goes straight to the neighbour, who never asked that address.
    let hairpin = Rule::new("a container calls a published port: the answer passes here again")
        .source_in(subnet)
        .leaves(IS, bridge)
        .published(IS)
        .masquerade();
    let local = Rule::new("the host calls 127.0.0.1: a container cannot answer that address")
        .source_in(loopback)
        .leaves(IS, bridge)
        .masquerade();
    for rule in [out, hairpin, local] {
        batch.rule(table, POSTROUTING, &rule);
    }
    batch.send()?;
    Ok(())
    // } todo!("task 04.4: let containers out under the host's address (book: 4.4)")
}

/// Another table's verdict to drop is final; ours to accept would not be.
fn warn_of_firewalls(bridge: &str) -> Result<()> {
    for chain in forward_chains_that_drop()? {
        tracing::warn!(
            "the firewall of this host drops forwarded packets (nf_tables chain {chain}): containers may \
             not reach the outside until it accepts what comes from and goes to {bridge}"
        );
    }
    Ok(())
}

/// route_localnet lets 127.0.0.0/8 cross the bridge; without this rule a container could speak to
/// the services that the host keeps to itself (CVE-2020-8558).
fn no_way_to_loopback(bridge: &str, loopback: Ipv4Network) -> Rule {
    Rule::new("what listens on the host's loopback is not for containers")
        .enters(IS, bridge)
        .destination_in(loopback)
        .drop()
}

/// ip_forward made the host a router: a neighbour could send to 10.88.0.2 through it.
fn no_way_but_published(bridge: &str) -> Rule {
    Rule::new("others reach a container by its published ports only")
        .leaves(IS, bridge)
        .enters(IS_NOT, bridge)
        .opens_connection()
        .published(IS_NOT)
        .drop()
}

/// Makes the table of one container's published ports.
pub(crate) fn publish(table: &str, id: &str, to: Ipv4Addr, ports: &[Publish]) -> Result<()> {
    // task 04.5 {
    if has_table(table)? {
        remove(&[table.to_owned()])?; // of a container whose lease was lost, or it would have been swept
    }
    let comment = format!("container {id}");
    let mut batch = Batch::new();
    batch.table(table, &comment);
    for chain in [PREROUTING, OUTPUT] {
        batch.chain(table, chain);
        for port in ports {
            let rule = Rule::new(&comment);
            let rule = match port.address {
                Some(IpAddr::V4(address)) => rule.destination_in(address.into()),
                _ => rule.destination_is_local(),
            };
            let rule = rule
                .port(port.protocol, port.host)
                .dnat(SocketAddrV4::new(to, port.container));
            batch.rule(table, chain, &rule);
        }
    }
    batch.send()?;
    Ok(())
    // } todo!("task 04.5: lead a port of the host to the container (book: 4.5)")
}

/// Removes tables, those that exist. The kernel frees them in the background, and makes whoever
/// closes a socket like the answered one wait for that: keep it while there is other work.
pub(crate) fn remove(tables: &[String]) -> Result<Option<OwnedFd>> {
    if tables.is_empty() {
        return Ok(None);
    }
    let mut batch = Batch::new();
    for table in tables {
        batch.no_table(table);
    }
    batch.send().map(Some)
}
