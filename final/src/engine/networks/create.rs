//! `network create`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use ipnetwork::{IpNetwork, Ipv6Network};

use super::Networks;
use super::pools::{Taken, unique_local};
use crate::state::{Changing, Network, is_id, journal, new_id};

/// What a user asks for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// What to call it.
    pub name: String,
    /// How it is to be made; empty is `bridge`, and there is no other.
    pub driver: String,
    /// Its subnets, at most one of IPv4 and one of IPv6.
    pub subnets: Vec<IpNetwork>,
    /// Where in them addresses are given out.
    pub ranges: Vec<IpNetwork>,
    /// The host's addresses in them.
    pub gateways: Vec<IpAddr>,
    /// Whom addresses in them belong to that no container gets.
    pub spared: BTreeMap<String, IpAddr>,
    /// Whether it is to have IPv6.
    pub six: bool,
    /// Whether nothing leads out of it.
    pub internal: bool,
    /// What docker's swarm would ask for.
    pub attachable: bool,
    /// What to write on it.
    pub labels: BTreeMap<String, String>,
    /// Docker's options of a bridge, by their names.
    pub options: BTreeMap<String, String>,
}

impl Networks {
    /// Makes a network, of which nothing but a file is there before the first container comes.
    ///
    /// # Errors
    /// The name is taken, or none; its addresses are somebody's, or make no sense; the disk is full.
    pub fn create(&self, wish: Wish) -> Result<Network> {
        check_name(&wish.name)?;
        check_driver(&wish.driver)?;
        let parts = parts(&wish)?;
        let id = new_id()?;

        // From here on nobody else takes the name, or the addresses.
        let changing = Changing::begin(&self.dirs)?;
        let others = Network::all(&self.dirs)?;
        let name = &wish.name;
        ensure!(
            !others.iter().any(|other| other.name == *name),
            "network with name {name} already exists"
        );
        let mut network = Network {
            internal: wish.internal,
            attachable: wish.attachable,
            spared: wish.spared,
            labels: wish.labels,
            options: wish.options,
            ..Network::new(id, name)
        };
        check_options(&network)?;
        let taken = Taken::new(&others, &network::routes()?);
        for part in &parts {
            taken.check(part.subnet)?;
            part.write(&mut network);
        }
        complete(&mut network, wish.six, &taken)?;
        let [default, ..] = Network::predefined();
        let mut bridges = others.iter().chain([&default]);
        if let Some(other) = bridges.find(|other| other.link() == network.link()) {
            bail!(
                "cannot create network {name} ({}): conflicts with network {} ({}): networks have \
                 same bridge name",
                network.short_id(),
                other.name,
                other.short_id()
            );
        }
        // Whatever else a bridge cannot be is better said now than when the first container starts.
        network.bridge(&self.dirs)?;
        changing.write(&network)?;
        journal::tell(&self.dirs, &network.event("create"));
        Ok(network)
    }
}

fn check_name(name: &str) -> Result<()> {
    ensure!(
        name != "default" && !Network::predefined().iter().any(|it| it.name == name),
        "operation is not permitted on predefined {name} network"
    );
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let begins = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    ensure!(
        begins && name.len() <= 255 && name.bytes().all(allowed),
        "invalid network name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    );
    ensure!(
        !is_id(name),
        "invalid network name {name:?}: it would be taken for an id"
    );
    Ok(())
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "bridge" => Ok(()),
        "host" | "null" => bail!("only one instance of \"{driver}\" network is allowed"),
        other => bail!(
            "could not find plugin \"{other}\": plugin \"{other}\" not found; there is bridge"
        ),
    }
}

/// What lies beside the bridges' directories in RUN/network, and would be taken for one of them.
const NOT_BRIDGES: [&str; 4] = ["containers", "keeper", "lock", "uplink"];

/// Docker's options of a bridge.
const OPTIONS: [&str; 5] = [
    Network::BRIDGE_NAME,
    Network::MTU,
    Network::TOGETHER,
    Network::MASQUERADE,
    Network::BINDING,
];

fn check_options(network: &Network) -> Result<()> {
    let options = &network.options;
    if let Some(key) = options.keys().find(|key| !OPTIONS.contains(&key.as_str())) {
        bail!(
            "the option {key} is not supported: there are {}",
            OPTIONS.join(", ")
        );
    }
    let bridge = options.get(Network::BRIDGE_NAME).map_or("", String::as_str);
    ensure!(
        !NOT_BRIDGES.contains(&bridge),
        "no bridge can be called {bridge}: the word has another meaning for minidocker"
    );
    ensure!(
        network.switch(Network::MASQUERADE)?,
        "{}=false is not supported: the outside would have to know a way to the containers",
        Network::MASQUERADE
    );
    network.binding().map(drop)
}

/// A subnet that was asked for, and what of it was.
struct Part {
    subnet: IpNetwork,
    range: Option<IpNetwork>,
    gateway: Option<IpAddr>,
}

/// The subnets that were asked for, at most one of each kind.
fn parts(wish: &Wish) -> Result<Vec<Part>> {
    let mut parts: Vec<Part> = Vec::new();
    for subnet in &wish.subnets {
        check_subnet(*subnet)?;
        ensure!(
            wish.six || subnet.is_ipv4(),
            "the subnet {subnet} is one of IPv6: ask for that with --ipv6"
        );
        let same = |part: &Part| part.subnet.is_ipv4() == subnet.is_ipv4();
        ensure!(
            !parts.iter().any(same),
            "bridge driver doesn't support multiple subnets"
        );
        parts.push(Part {
            subnet: *subnet,
            range: None,
            gateway: None,
        });
    }
    ensure!(
        !parts.is_empty() || (wish.ranges.is_empty() && wish.gateways.is_empty()),
        "every ip-range or gateway must have a corresponding subnet"
    );
    for address in wish.spared.values() {
        ensure!(
            parts.iter().any(|it| it.subnet.contains(*address)),
            "no matching subnet for aux-address {address}"
        );
    }
    for range in &wish.ranges {
        let part = parts.iter_mut().find(|it| it.subnet.contains(range.ip()));
        let part = part.with_context(|| format!("no matching subnet for range {range}"))?;
        let subnet = part.subnet;
        check_range(*range, subnet)?;
        if let Some(other) = part.range.replace(*range) {
            bail!(
                "cannot configure multiple ranges ({range}, {other}) on the same subnet ({subnet})"
            );
        }
    }
    for gateway in &wish.gateways {
        let part = parts.iter_mut().find(|it| it.subnet.contains(*gateway));
        let part = part.with_context(|| format!("no matching subnet for gateway {gateway}"))?;
        let subnet = part.subnet;
        check_gateway(*gateway, subnet)?;
        if let Some(other) = part.gateway.replace(*gateway) {
            bail!(
                "cannot configure multiple gateways ({gateway}, {other}) for the same subnet ({subnet})"
            );
        }
    }
    Ok(parts)
}

fn check_subnet(subnet: IpNetwork) -> Result<()> {
    let first = subnet.network();
    let (least, most) = match subnet {
        IpNetwork::V4(_) => (8, 29),
        IpNetwork::V6(_) => (8, 125),
    };
    let prefix = subnet.prefix();
    ensure!(
        first == subnet.ip(),
        "invalid subnet {subnet}: it should be {first}/{prefix}"
    );
    ensure!(
        prefix >= least,
        "invalid subnet {subnet}: it is too large, /{least} is the most"
    );
    ensure!(
        prefix <= most,
        "invalid subnet {subnet}: it is too small, /{most} is the least"
    );
    let is_special = match first {
        IpAddr::V4(first) => {
            first.is_loopback() || first.octets()[0] >= 224 || first.octets()[0] == 0
        }
        IpAddr::V6(first) => first.octets()[0] == 0 || first.is_multicast(),
    };
    ensure!(
        !is_special,
        "invalid subnet {subnet}: these addresses are no machine's in a network"
    );
    Ok(())
}

fn check_range(range: IpNetwork, subnet: IpNetwork) -> Result<()> {
    let (first, prefix) = (range.network(), range.prefix());
    ensure!(
        prefix >= subnet.prefix(),
        "invalid ip-range {range}: CIDR block is bigger than its parent subnet {subnet}"
    );
    ensure!(
        first == range.ip(),
        "invalid ip-range {range}: it should be {first}/{prefix}"
    );
    Ok(())
}

fn check_gateway(gateway: IpAddr, subnet: IpNetwork) -> Result<()> {
    let is_last = subnet.is_ipv4() && gateway == subnet.broadcast();
    ensure!(
        gateway != subnet.network() && !is_last,
        "invalid gateway {gateway}: in {subnet} that is nobody's address"
    );
    Ok(())
}

impl Part {
    /// Gives it to a network.
    fn write(&self, network: &mut Network) {
        match self.subnet {
            IpNetwork::V4(subnet) => {
                network.subnet = Some(subnet);
                network.chosen = true;
            }
            IpNetwork::V6(subnet) => {
                network.subnet6 = Some(subnet);
                network.chosen6 = true;
            }
        }
        match self.gateway {
            Some(IpAddr::V4(gateway)) => network.gateway = Some(gateway),
            Some(IpAddr::V6(gateway)) => network.gateway6 = Some(gateway),
            None => {}
        }
        match self.range {
            Some(IpNetwork::V4(range)) => network.range = Some(range),
            Some(IpNetwork::V6(range)) => network.range6 = Some(range),
            None => {}
        }
    }
}

/// What nobody asked for is chosen: addresses that nobody has.
fn complete(network: &mut Network, six: bool, taken: &Taken) -> Result<()> {
    let subnet = network.subnet.map_or_else(|| taken.free(), Ok)?;
    network.subnet = Some(subnet);
    let spared: Vec<IpAddr> = network.spared.values().copied().collect();
    let is_free = |address: &IpAddr| !spared.contains(address);
    let mut first = subnet.iter().skip(1).filter(|it| is_free(&(*it).into()));
    network.gateway = network.gateway.or_else(|| first.next());
    if six && network.subnet6.is_none() {
        let subnet = unique_local(&network.id)?;
        taken.check(subnet.into())?;
        network.subnet6 = Some(subnet);
    }
    let first = |subnet: Ipv6Network| {
        let addresses = (1..).map(|n| Ipv6Addr::from_bits(subnet.network().to_bits() + n));
        addresses.into_iter().find(|it| is_free(&(*it).into()))
    };
    network.gateway6 = network.gateway6.or_else(|| network.subnet6.and_then(first));
    Ok(())
}
