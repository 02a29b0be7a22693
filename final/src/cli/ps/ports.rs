//! The column PORTS: `0.0.0.0:8080->80/tcp, 443/tcp`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use minidocker::engine::containers::ports::on_host;
use minidocker::state::Container;

/// One port of a container; what is published of it, if it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Open {
    pub(crate) private: u16,
    pub(crate) published: Option<(IpAddr, u16)>,
    pub(crate) protocol: String,
}

/// The ports of a container that runs in a network of its own; each once, in docker's order.
pub(crate) fn of(container: &Container) -> Vec<Open> {
    let mode = container.host.network_mode.as_str();
    let elsewhere = matches!(mode, "host" | "none") || mode.starts_with("container:");
    if elsewhere || !container.life.status.needs_shim() {
        return Vec::new();
    }
    let published = container.life.ports.iter();
    let mut ports: Vec<Open> = published
        .clone()
        .map(|port| Open {
            private: port.container,
            published: Some((on_host(port).ip(), port.host)),
            protocol: port.protocol.clone(),
        })
        .collect();
    let known = published.map(|port| (port.container, port.protocol.as_str()));
    let known: HashSet<_> = known.collect();
    for exposed in container.config.exposed_ports.keys() {
        let (number, protocol) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(private) = number.parse() else {
            continue;
        };
        if !known.contains(&(private, protocol)) {
            ports.push(Open {
                private,
                published: None,
                protocol: protocol.to_owned(),
            });
        }
    }
    ports.sort();
    ports.dedup();
    ports
}

/// Ports in a row that are published under their own numbers are one group, and so are those that
/// are not published; the others come last, one by one.
pub(crate) fn shown(ports: &[Open]) -> String {
    let mut done = Vec::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut others = Vec::new();
    for port in ports {
        let address = match port.published {
            Some((address, public)) if public != port.private => {
                let place = SocketAddr::new(address, public);
                others.push(format!("{place}->{}/{}", port.private, port.protocol));
                continue;
            }
            Some((address, _)) => Some(address),
            None => None,
        };
        let of_it =
            |group: &&mut Group| (group.address, group.protocol) == (address, &port.protocol);
        match groups.iter_mut().find(of_it) {
            Some(group) if group.last.checked_add(1) == Some(port.private) => {
                group.last = port.private;
            }
            Some(group) => {
                done.push(group.to_string());
                (group.first, group.last) = (port.private, port.private);
            }
            None => groups.push(Group {
                address,
                protocol: &port.protocol,
                first: port.private,
                last: port.private,
            }),
        }
    }
    done.extend(groups.iter().map(ToString::to_string));
    done.extend(others);
    done.join(", ")
}

struct Group<'p> {
    address: Option<IpAddr>,
    protocol: &'p str,
    first: u16,
    last: u16,
}

impl std::fmt::Display for Group<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (first, last, protocol) = (self.first, self.last, self.protocol);
        let numbers = match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        match self.address {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{numbers}->{numbers}/{protocol}"),
            Some(address) => write!(f, "{address}:{numbers}->{numbers}/{protocol}"),
            None => write!(f, "{numbers}/{protocol}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(private: u16, published: Option<(&str, u16)>, protocol: &str) -> Open {
        Open {
            private,
            published: published.map(|(address, port)| (address.parse().unwrap(), port)),
            protocol: protocol.to_owned(),
        }
    }

    #[test]
    fn ports_in_a_row_are_merged_as_docker_does() {
        let any = |port| Some(("0.0.0.0", port));
        for (ports, expected) in [
            (vec![], ""),
            (vec![open(80, None, "tcp")], "80/tcp"),
            (vec![open(80, any(8080), "tcp")], "0.0.0.0:8080->80/tcp"),
            (
                vec![
                    open(80, any(8080), "tcp"),
                    open(80, Some(("::", 8080)), "tcp"),
                    open(81, Some(("::", 81)), "tcp"),
                    open(82, Some(("::", 82)), "tcp"),
                ],
                "[::]:81-82->81-82/tcp, 0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                vec![
                    open(80, any(80), "tcp"),
                    open(81, any(81), "tcp"),
                    open(83, any(83), "tcp"),
                ],
                "0.0.0.0:80-81->80-81/tcp, 0.0.0.0:83->83/tcp",
            ),
            (
                vec![
                    open(80, None, "tcp"),
                    open(81, None, "tcp"),
                    open(81, None, "udp"),
                    open(90, any(9090), "udp"),
                    open(90, Some(("127.0.0.1", 90)), "udp"),
                ],
                "80-81/tcp, 81/udp, 127.0.0.1:90->90/udp, 0.0.0.0:9090->90/udp",
            ),
        ] {
            assert_eq!(shown(&ports), expected);
        }
    }
}
