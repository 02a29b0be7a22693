//! Which ports of the host a container gets.

use anyhow::{Context, Result, bail};
use network::{Protocol, Publish, Reserved};

use crate::state::{Container, Port};

/// Takes all that it publishes: `-p`, and with `-P` what its image and `--expose` name.
///
/// # Errors
/// One of them is taken.
pub fn reserve(
    container: &Container,
    take: impl Fn(&Publish) -> Result<Reserved>,
) -> Result<Vec<Reserved>> {
    let wanted = wanted(container)?;
    // Who picks comes last: a port that somebody else asked for by its number is not picked.
    let (mut any, fixed): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|port| port.host == 0);
    let mut all = fixed;
    all.append(&mut any);
    all.iter().map(|port| one(port, &take)).collect()
}

/// One port, or the first of its range that is free.
fn one(port: &Port, take: impl Fn(&Publish) -> Result<Reserved>) -> Result<Reserved> {
    let publish = publish(port)?;
    if port.last <= port.host {
        return take(&publish);
    }
    for host in port.host..=port.last {
        if let Ok(reserved) = take(&Publish { host, ..publish }) {
            return Ok(reserved);
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

/// What is to be published, each once.
fn wanted(container: &Container) -> Result<Vec<Port>> {
    let mut wanted: Vec<Port> = Vec::new();
    for port in &container.host.ports {
        if !wanted.contains(port) {
            wanted.push(port.clone());
        }
    }
    if !container.host.publish_all_ports {
        return Ok(wanted);
    }
    for exposed in container.config.exposed_ports.keys() {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let number: u16 = number
            .parse()
            .with_context(|| format!("Invalid containerPort: {exposed}"))?;
        let is_it = |port: &Port| port.container == number && port.protocol == protocol;
        if !wanted.iter().any(is_it) {
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
    Ok(Publish {
        address: port.address,
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
        address: publish.address,
        host: publish.host,
        last: 0,
        container: publish.container,
        protocol: publish.protocol.to_string(),
    }
}
