//! Which ports of the host a container gets, and who leads them to it: the kernel, or a
//! [relay](super::relay) where it cannot.

use std::collections::HashSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};
use network::{Protocol, Publish, Reserved};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{Backlog, listen};

use super::relay::{Relay, Way};
use crate::shim::raise_file_limit;
use crate::state::{Container, Port};

/// So many ports are many.
const MANY: usize = 100;

/// How often another port is picked where one is free in IPv4 and taken in IPv6.
const ATTEMPTS: usize = 16;

/// Takes all that it publishes: `-p`, and with `-P` what its image and `--expose` name; on the
/// address of `binding` where none is named.
///
/// # Errors
/// One of them is taken.
pub fn reserve(
    container: &Container,
    binding: Option<IpAddr>,
    take: impl Fn(&Publish) -> Result<Reserved>,
) -> Result<Vec<Reserved>> {
    let mut wanted = wanted(container)?;
    for port in &mut wanted {
        port.address = port.address.or(binding);
    }
    make_room(&wanted)?;
    // Who picks comes last: a port that somebody else asked for by its number is not picked.
    let (any, fixed): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|port| port.host == 0);
    let mut all = Vec::new();
    for port in fixed.iter().chain(&any) {
        let more = one(port, &all, &take)?;
        all.extend(more);
    }
    Ok(all)
}

/// Lets this process have the descriptors for so many ports: one for each in IPv4, and two in IPv6,
/// where a relay has one as well.
fn make_room(ports: &[Port]) -> Result<()> {
    if ports.len() < MANY {
        return Ok(());
    }
    raise_file_limit()?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("getrlimit(RLIMIT_NOFILE)")?;
    let all = if has_six() { 3 } else { 1 };
    let each = ports.iter().map(|port| match port.address {
        None => all,
        Some(IpAddr::V4(_)) => 1,
        Some(IpAddr::V6(_)) => 2,
    });
    let needed: u64 = each.sum();
    ensure!(
        needed < most,
        "{} published ports take at least {needed} open files, and a process may have {most} here \
         (ulimit -Hn): publish fewer, or raise that limit",
        ports.len()
    );
    Ok(())
}

/// One port, or the first of its range that is free; on each of the host's addresses where none is
/// named.
fn one(
    port: &Port,
    others: &[Reserved],
    take: impl Fn(&Publish) -> Result<Reserved>,
) -> Result<Vec<Reserved>> {
    let publish = publish(port)?;
    let six = (port.address.is_none() && has_six()).then(|| Publish {
        address: Some(Ipv6Addr::UNSPECIFIED.into()),
        ..publish
    });
    let take = |host: u16| -> Result<Vec<Reserved>> {
        let mut taken = vec![take(&Publish { host, ..publish }).or_else(|error| {
            let own = others.iter().any(|other| collide(&other.port(), &publish));
            let place = SocketAddr::new(address(&publish), host);
            ensure!(!own, "Bind for {place} failed: port is already allocated");
            Err(error)
        })?];
        if let Some(six) = six {
            // The same, where one was picked.
            let host = taken.first().map_or(host, |first| first.port().host);
            taken.push(take(&Publish { host, ..six })?);
        }
        Ok(taken)
    };
    if port.host == 0 && six.is_some() {
        for _ in 1..ATTEMPTS {
            if let Ok(taken) = take(0) {
                return Ok(taken);
            }
        }
    }
    if port.last <= port.host {
        return take(port.host);
    }
    for host in port.host..=port.last {
        if let Ok(taken) = take(host) {
            return Ok(taken);
        }
    }
    bail!(
        "all ports are allocated: none of {}-{} is free for port {}/{} of the container",
        port.host,
        port.last,
        port.container,
        port.protocol
    )
}

/// Whether one container cannot have both.
fn collide(one: &Publish, two: &Publish) -> bool {
    (one.host, one.protocol) == (two.host, two.protocol)
        && address(one).is_ipv4() == address(two).is_ipv4()
}

/// Whether programs of this host can use IPv6.
fn has_six() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn address(publish: &Publish) -> IpAddr {
    publish.address.unwrap_or(Ipv4Addr::UNSPECIFIED.into())
}

/// Whether it is called by IPv6. No rule leads from there to a container that has IPv4 only, and none
/// from `::1` to anywhere else.
pub fn is_six(reserved: &&Reserved) -> bool {
    reserved
        .port()
        .address
        .is_some_and(|address| address.is_ipv6())
}

/// Who copies what arrives at ports that are taken; to nowhere yet. `netns`: from where the container
/// is called; `None`: from here.
///
/// # Errors
/// The process has no descriptors left.
pub fn relay<'r>(
    reserved: impl Iterator<Item = &'r Reserved>,
    netns: Option<File>,
) -> Result<Option<Relay>> {
    let ways = reserved.map(|reserved| {
        let socket = reserved.as_fd().try_clone_to_owned();
        let socket = socket.context("dup a socket")?;
        if reserved.port().protocol == Protocol::Tcp {
            // It was to be an obstacle, and is a server now.
            listen(&socket, Backlog::MAXCONN).context("listen")?;
        }
        let port = of(reserved.port());
        Ok(Way {
            socket,
            to: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port.container),
            port,
        })
    });
    let ways: Vec<_> = ways.collect::<Result<_>>()?;
    Ok((!ways.is_empty()).then(|| Relay::new(ways, netns)))
}

/// What is to be published, each once.
fn wanted(container: &Container) -> Result<Vec<Port>> {
    let mut wanted = container.host.ports.clone();
    if !container.host.publish_all_ports {
        return Ok(wanted);
    }
    let known = wanted
        .iter()
        .map(|port| (port.container, port.protocol.clone()));
    let known: HashSet<_> = known.collect();
    for exposed in container.config.exposed_ports.keys() {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let number: u16 = number
            .parse()
            .with_context(|| format!("Invalid containerPort: {exposed}"))?;
        if !known.contains(&(number, protocol.to_owned())) {
            wanted.push(Port {
                container: number,
                protocol: protocol.to_owned(),
                ..Port::default()
            });
        }
    }
    Ok(wanted)
}

/// As the leaf has it.
fn publish(port: &Port) -> Result<Publish> {
    // Each IPv4 address is what the leaf means by none.
    let four = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    Ok(Publish {
        address: port.address.filter(|address| *address != four),
        host: port.host,
        container: port.container,
        protocol: match port.protocol.as_str() {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => bail!(
                "port {}/{other} cannot be published: tcp and udp are known",
                port.container
            ),
        },
    })
}

/// As the state has it.
pub fn of(publish: Publish) -> Port {
    Port {
        address: Some(address(&publish)),
        host: publish.host,
        last: 0,
        container: publish.container,
        protocol: publish.protocol.to_string(),
    }
}
