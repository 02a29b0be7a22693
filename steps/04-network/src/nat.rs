//! The rules: who is turned into whom on the way through the host.
//!
//! ```text
//! table inet minidocker               comes with the first container, goes with the last
//!   bridges, internal, neighbours     sets of links: each bridge; some of them; each with itself
//!   subnets, subnets6                 sets of addresses: those behind the bridges
//!   guard        prerouting, raw      elsewhere -> 127.0.0.0/8              drop
//!   forward      forward, filter      from or to an internal bridge         drop
//!                                     of a connection that was let through  accept
//!                                     elsewhere -> a bridge, not published  drop
//!   postrouting  postrouting, srcnat  a bridge -> the world                 masquerade
//!                                     a subnet -> a bridge, published       masquerade
//!                                     127.0.0.0/8 -> a bridge               masquerade
//!                                     and with the first published port:
//!   prerouting   prerouting, dstnat   from elsewhere: published
//!   output       output, dstnat       from programs of the host itself: published
//!   published                         dnat to whom these maps name:
//!     ports, ports6                   address . tcp . 8080 -> 10.88.0.2 . 80
//!     any, any6                       tcp . 8080 -> 10.88.0.2 . 80, on each address of this host
//! ```
//!
//! A packet pays for each rule that it is compared with: those of `forward` about internal bridges
//! come with the first of them, as all about ports comes with the first port. (Where br_netfilter is
//! loaded, packets between two ports of one bridge pass here, too.)
//!
//! Rules stay as they are. Who comes and goes is an element of a set or a map, and a packet finds it
//! by a hash, however many there are. The table is ours alone, and nobody else's rule is changed; its
//! comment says whose state directory it belongs to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use ipnetwork::{IpNetwork, Ipv4Network};

use crate::firewall;
use crate::leases::Place;
use crate::nft::{Batch, Chain, Element, Field, Line, Set};
use crate::publish::Publish;
use crate::rule::{IS, IS_NOT, Rule, link_name};

/// The name of the table.
pub(crate) const TABLE: &str = "minidocker";

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
/// The chain that both jump to.
const PUBLISHED: &str = "published";

/// The links that are bridges of ours.
const BRIDGES: Set = Set::of("bridges", &[Field::Link]);
/// Those of them from which nothing leads outside.
const INTERNAL: Set = Set::of("internal", &[Field::Link]);
/// Each bridge with itself: where a packet enters, and where it leaves, if it stays in its network.
const NEIGHBOURS: Set = Set::of("neighbours", &[Field::Link, Field::Link]);
/// The addresses behind the bridges.
const SUBNETS: Set = Set::of_ranges("subnets", &[Field::Ipv4]);
const SUBNETS6: Set = Set::of_ranges("subnets6", &[Field::Ipv6]);
/// Ports that are published on one address of the host.
pub(crate) const PORTS: Set = Set::map(
    "ports",
    &[Field::Ipv4, Field::Protocol, Field::Port],
    &[Field::Ipv4, Field::Port],
);
/// Ports that are published on each.
pub(crate) const ANY: Set = Set::map(
    "any",
    &[Field::Protocol, Field::Port],
    &[Field::Ipv4, Field::Port],
);
pub(crate) const PORTS6: Set = Set::map(
    "ports6",
    &[Field::Ipv6, Field::Protocol, Field::Port],
    &[Field::Ipv6, Field::Port],
);
const ANY6: Set = Set::map(
    "any6",
    &[Field::Protocol, Field::Port],
    &[Field::Ipv6, Field::Port],
);

const SETS: [Set; 4] = [BRIDGES, NEIGHBOURS, SUBNETS, SUBNETS6];
const MAPS: [Set; 4] = [PORTS, ANY, PORTS6, ANY6];

/// A port of the host, and the container that it leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door {
    pub port: Publish,
    pub to: IpAddr,
}

/// A bridge with the doors of those who are plugged into it.
#[derive(Debug)]
pub(crate) struct Side {
    pub bridge: String,
    /// `None`: it is not known any more.
    pub place: Option<Place>,
    pub doors: Vec<Door>,
}

impl Side {
    /// Rather shut in than let out, where it is not known any more.
    fn is_internal(&self) -> bool {
        self.place.is_none_or(|place| place.internal)
    }
}

/// The table of a state directory, and a line to it.
pub(crate) struct Table {
    run_dir: PathBuf,
    line: Line,
}

impl Table {
    pub fn of(run_dir: &Path) -> Result<Self> {
        Ok(Self {
            run_dir: run_dir.to_owned(),
            line: Line::open()?,
        })
    }

    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Has the rules know of a bridge and of doors behind it. Where the table, or a part of it, is
    /// missing (it is the first port, or a firewall that was restarted said `flush ruleset`), it is
    /// made anew, with `everybody`.
    pub fn admit(&self, side: &Side, everybody: impl FnOnce() -> Result<Vec<Side>>) -> Result<()> {
        let mut batch = Batch::new();
        enter(&mut batch, side);
        match self.is_there()? && batch.send(&self.line).is_ok() {
            true => Ok(()),
            false => self.renew(&everybody()?),
        }
    }

    /// Has them forget doors, and the bridge if nobody is behind it any more; without `everybody`
    /// the table goes.
    pub fn dismiss(
        &self,
        side: &Side,
        is_empty: bool,
        everybody: impl Fn() -> Result<Vec<Side>>,
    ) -> Result<()> {
        let says_nothing = side.doors.is_empty() && !is_empty;
        if says_nothing || !self.is_ours()? {
            return Ok(());
        }
        if is_empty && everybody()?.is_empty() {
            return self.remove();
        }
        let mut batch = Batch::new();
        leave(&mut batch, side, is_empty);
        // An owner who died before his ports were known, or a table that somebody has taken from.
        let sent = batch.send(&self.line);
        sent.or_else(|_| self.renew(&everybody()?))
    }

    /// Has doors lead to another address of the same container, all at once.
    pub fn move_doors(
        &self,
        from: &Side,
        to: &Side,
        everybody: impl FnOnce() -> Result<Vec<Side>>,
    ) -> Result<()> {
        let mut batch = Batch::new();
        leave(&mut batch, from, false);
        enter(&mut batch, to);
        match self.is_there()? && batch.send(&self.line).is_ok() {
            true => Ok(()),
            false => self.renew(&everybody()?),
        }
    }

    /// Removes the table.
    pub fn remove(&self) -> Result<()> {
        let mut batch = Batch::new();
        batch.no_table();
        batch.send(&self.line)
    }

    /// Whether it is there.
    pub fn is_ours(&self) -> Result<bool> {
        Ok(self.line.comment_of_table()? == Some(mark(&self.run_dir)))
    }

    /// Whether it is there; another engine's is an error.
    fn is_there(&self) -> Result<bool> {
        match self.line.comment_of_table()? {
            None => Ok(false),
            Some(comment) if comment == mark(&self.run_dir) => Ok(true),
            Some(comment) => bail!(
                "the nf_tables table inet minidocker is somebody else's ({comment:?}), and one network \
                 has room for one minidocker: if that one is gone, `nft delete table inet minidocker`"
            ),
        }
    }

    /// Makes it, in the place of the one that may be there, in one transaction.
    pub fn renew(&self, everybody: &[Side]) -> Result<()> {
        let mut batch = Batch::new();
        if self.is_there()? {
            batch.no_table();
        }
        batch.table(&mark(&self.run_dir));
        SETS.iter().for_each(|set| batch.set(set));
        // Not before there is an internal bridge, or a port: without, no packet need be looked up. The
        // first one finds the set or the maps missing.
        let internals = everybody.iter().any(Side::is_internal);
        if internals {
            batch.set(&INTERNAL);
        }
        protect(&mut batch, internals)?;
        ways_out(&mut batch)?;
        if everybody.iter().any(|side| !side.doors.is_empty()) {
            MAPS.iter().for_each(|map| batch.set(map));
            ways_in(&mut batch);
        }
        for side in everybody {
            enter(&mut batch, side);
        }
        batch.send(&self.line)
    }

    /// Another table's verdict to drop is final; ours to accept would not be. So where there is one,
    /// and it says nothing about the bridge, it is told how it can be allowed.
    pub fn warn_of_firewalls(&self, bridge: &str) -> Result<()> {
        for chain in firewall::in_the_way(&self.line, bridge)? {
            tracing::warn!(
                "the firewall of this host drops forwarded packets (nf_tables chain {chain}): \
                 containers may not reach the outside (where br_netfilter is loaded, nor each other) \
                 until it accepts what comes from and goes to {bridge}: {}",
                chain.remedy(bridge)
            );
        }
        Ok(())
    }
}

/// By which the table is known.
fn mark(run_dir: &Path) -> String {
    let comment = format!("minidocker in {}", run_dir.display());
    comment.chars().take(Batch::COMMENT).collect()
}

/// What is dropped.
fn protect(batch: &mut Batch, internals: bool) -> Result<()> {
    batch.chain(GUARD);
    batch.chain(FORWARD);
    // route_localnet lets 127.0.0.0/8 cross a bridge; without this rule a container could speak to
    // the services that the host keeps to itself (CVE-2020-8558). And from a wire a packet could be
    // led to a port that is published on 127.0.0.1, before the kernel takes it for a martian.
    let loopback = Rule::new("the host's 127.0.0.1 is for the host")
        .comes_from_elsewhere()
        .goes_to(loopback()?)
        .drop();
    batch.rule(GUARD.name, &loopback);
    // Before all that is accepted: conntrack knows addresses and no links, and somebody elsewhere
    // could begin a connection under the address of one who is shut in.
    if internals {
        for rule in [
            Rule::new("an internal network leads nowhere").enters(IS, INTERNAL),
            Rule::new("nobody comes into an internal network").leaves(IS, INTERNAL),
        ] {
            batch.rule(FORWARD.name, &rule.stays(IS_NOT, NEIGHBOURS).drop());
        }
    }
    // Nearly all packets are such, and are looked up nowhere.
    let further = Rule::new("a connection that was let through goes on");
    batch.rule(FORWARD.name, &further.continues().accept());
    // ip_forward made the host a router: a neighbour of the host's, or another network's container,
    // could send to 10.88.0.2 through it.
    let strangers = Rule::new("others reach a container by its published ports only")
        .leaves(IS, BRIDGES)
        .stays(IS_NOT, NEIGHBOURS)
        .published(IS_NOT)
        .drop();
    batch.rule(FORWARD.name, &strangers);
    Ok(())
}

/// Who leaves under the host's address.
fn ways_out(batch: &mut Batch) -> Result<()> {
    // task 04.4 {
    batch.chain(POSTROUTING);
    let out = Rule::new("containers leave with the host's address, answers find back")
        .enters(IS, BRIDGES)
        .leaves(IS_NOT, BRIDGES)
        .masquerade();
    // Otherwise the answer goes straight to the neighbour, who never asked that address. By which
    // link it came cannot be asked: where br_netfilter is loaded, the packet never left the bridge.
    let answer = "a container calls a published port: the answer passes here again";
    let hairpin = |rule: Rule| rule.leaves(IS, BRIDGES).published(IS).masquerade();
    let local = Rule::new("the host calls 127.0.0.1: a container cannot answer that address")
        .comes_from(loopback()?)
        .leaves(IS, BRIDGES)
        .masquerade();
    for rule in [
        out,
        hairpin(Rule::new(answer).comes_from_one_of(SUBNETS)),
        hairpin(Rule::new(answer).comes_from_one_of(SUBNETS6)),
        local,
    ] {
        batch.rule(POSTROUTING.name, &rule);
    }
    Ok(())
    // } todo!("task 04.4: let containers out under the host's address (book: 4.4)")
}

/// Where a published port leads.
fn ways_in(batch: &mut Batch) {
    // task 04.5 {
    batch.bare_chain(PUBLISHED);
    let one = "a port of one address of the host";
    let any = "a port of each address of the host";
    for rule in [
        Rule::new(one).dnat_to_whom(PORTS),
        Rule::new(any).dnat_to_whom(ANY),
        Rule::new(one).dnat_to_whom(PORTS6),
        // From ::1 nothing leaves a host, under no name (RFC 4291, 2.5.3).
        Rule::new(any)
            .destination_is_not(Ipv6Addr::LOCALHOST)
            .dnat_to_whom(ANY6),
    ] {
        batch.rule(PUBLISHED, &rule);
    }
    for chain in [PREROUTING, OUTPUT] {
        batch.chain(chain);
        let ports = Rule::new("published ports").destination_is_local();
        batch.rule(chain.name, &ports.jump(PUBLISHED));
    }
    // } todo!("task 04.5: lead ports of the host to containers (book: 4.5)")
}

/// Puts a bridge and its doors into the sets and maps; what is there already may be.
fn enter(batch: &mut Batch, side: &Side) {
    for (set, elements) in by_set(side).into_iter().chain(by_map(&side.doors)) {
        batch.add(set, &elements);
    }
}

/// Takes doors out, and with the last container its bridge.
fn leave(batch: &mut Batch, side: &Side, with_bridge: bool) {
    let bridge = by_set(side).into_iter().filter(|_| with_bridge);
    for (set, elements) in by_map(&side.doors).into_iter().chain(bridge) {
        batch.take(set, &elements);
    }
}

/// The bridge, as elements of the sets that it belongs into.
fn by_set(side: &Side) -> Vec<(Set, Vec<Element>)> {
    let link = link_name(&side.bridge);
    let is = |key: Vec<u8>| vec![Element::new(side.bridge.clone(), key)];
    let mut sets = vec![
        (BRIDGES, is(link.to_vec())),
        (NEIGHBOURS, is(link.repeat(2))),
    ];
    if side.is_internal() {
        sets.push((INTERNAL, is(link.to_vec())));
    }
    if let Some(Place { gateway, six, .. }) = side.place {
        let called = |net: IpNetwork| format!("{}/{}", net.network(), net.prefix());
        let behind = u32::from(gateway.broadcast()).wrapping_add(1);
        let (from, to) = (gateway.network().octets(), behind.to_be_bytes());
        sets.push((SUBNETS, range(called(gateway.into()), &from, &to)));
        sets.extend(six.map(|six| {
            let behind = u128::from(six.broadcast()).wrapping_add(1);
            let (from, to) = (six.network().octets(), behind.to_be_bytes());
            (SUBNETS6, range(called(six.into()), &from, &to))
        }));
    }
    sets
}

/// A subnet: its first address, and the first one behind it.
fn range(called: String, from: &[u8], to: &[u8]) -> Vec<Element> {
    let behind = Element {
        ends: true,
        ..Element::new(String::new(), to.into())
    };
    vec![Element::new(called, from.into()), behind]
}

/// The doors, as elements of the maps that they belong into.
fn by_map(doors: &[Door]) -> Vec<(Set, Vec<Element>)> {
    let within = |map: Set| {
        let doors = doors.iter().filter(|door| door.map() == Some(map));
        (map, doors.map(Door::element).collect::<Vec<_>>())
    };
    let mut maps: Vec<_> = MAPS.map(within).into();
    maps.retain(|(_, elements)| !elements.is_empty());
    maps
}

impl Door {
    /// The map that knows it. `None`: no rule can lead there, from IPv6 to IPv4 or from ::1.
    fn map(&self) -> Option<Set> {
        match (self.port.address, self.to) {
            (None, IpAddr::V4(_)) => Some(ANY),
            (Some(IpAddr::V4(_)), IpAddr::V4(_)) => Some(PORTS),
            (Some(IpAddr::V6(address)), IpAddr::V6(_)) if address.is_unspecified() => Some(ANY6),
            (Some(IpAddr::V6(address)), IpAddr::V6(_)) if !address.is_loopback() => Some(PORTS6),
            _ => None,
        }
    }

    /// Each field of a key or value fills whole registers, four bytes.
    fn element(&self) -> Element {
        let Publish {
            host,
            container,
            protocol,
            ..
        } = self.port;
        let port = |number: u16| [number.to_be_bytes(), [0; 2]].concat();
        let address = self
            .port
            .address
            .filter(|address| !address.is_unspecified());
        let mut key = address.map(octets).unwrap_or_default();
        key.extend([protocol.number(), 0, 0, 0]);
        key.extend(port(host));
        let value = [octets(self.to), port(container)].concat();
        Element {
            value,
            ..Element::new(self.to_string(), key)
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = SocketAddr::new(self.to, self.port.container);
        write!(f, "{} {} -> {to}", self.port.protocol, self.port.on_host())
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn loopback() -> Result<Ipv4Network> {
    Ok(Ipv4Network::new(Ipv4Addr::new(127, 0, 0, 0), 8)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(port: &str, to: &str) -> Door {
        Door {
            port: port.parse().expect(port),
            to: to.parse().expect(to),
        }
    }

    #[test]
    fn a_port_is_in_the_map_that_is_asked_for_it() {
        let map = |port, to| door(port, to).map().map(|map| map.name);
        assert_eq!(map("80:1", "10.88.0.2"), Some("any"));
        assert_eq!(map("192.0.2.1:80:1", "10.88.0.2"), Some("ports"));
        assert_eq!(map("[::]:80:1", "fd00::2"), Some("any6"));
        assert_eq!(map("[fd00::1]:80:1", "fd00::2"), Some("ports6"));
        assert_eq!(map("[::]:80:1", "10.88.0.2"), None);
        assert_eq!(map("[::1]:80:1", "fd00::2"), None);
    }

    #[test]
    fn an_element_is_as_long_as_its_map_says() {
        let door = door("192.0.2.1:8080:80/udp", "10.88.0.2");
        let element = door.element();
        let wanted = [192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0];
        assert_eq!(element.key, wanted);
        assert_eq!(element.value, [10, 88, 0, 2, 0, 80, 0, 0]);
        assert_eq!(element.called, "udp 192.0.2.1:8080 -> 10.88.0.2:80");
    }
}
