//! A container's places in networks with bridges: promised by a lease, then a cable each.

use std::collections::BTreeMap;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;

use anyhow::Result;
use cli::Dirs;
use network::bridge::{Bridge, Endpoint, Lease, Wish};

use super::ports;
use super::shared::Place;
use crate::state::{self, Container, Port};

/// The networks of one container, in docker's order. Dropping it gives everything back, there where
/// the bridges are.
pub struct Plugs {
    place: Place,
    all: Vec<Plug>,
}

/// A place in one of them.
pub struct Plug {
    /// The network's name.
    name: String,
    /// As the container calls its end of the cable.
    interface: String,
    /// Its id; empty for what is no network of anybody's.
    id: String,
    /// Whether somebody made it.
    is_made: bool,
    /// Whether it has a way out.
    is_open: bool,
    held: Held,
}

enum Held {
    Lease(Box<Lease>),
    Endpoint(Box<Endpoint>),
}

/// A network, found.
struct Found {
    bridge: Bridge,
    id: String,
    is_made: bool,
    is_open: bool,
}

impl Found {
    fn of(name: &str, dirs: &Dirs) -> Result<Found> {
        if name == state::Network::DEFAULT {
            return Ok(Found {
                bridge: Bridge::standard(&dirs.run)?,
                id: String::new(),
                is_made: false,
                is_open: true,
            });
        }
        let made = state::Network::find(dirs, name)?;
        Ok(Found {
            bridge: made.bridge(dirs)?,
            is_open: !made.internal,
            id: made.id,
            is_made: true,
        })
    }
}

impl Plugs {
    /// Takes an address in each network that the container is to be in, and its ports of the host in
    /// the first that leads out: in none where none does, as docker has it.
    ///
    /// # Errors
    /// A network is gone; a port of the host is taken; no address is free. Nothing is kept then.
    pub fn lease(place: Place, container: &Container, dirs: &Dirs) -> Result<Plugs> {
        let wanted = container.host.memberships().into_iter();
        let wanted = wanted.map(|(name, wanted)| Ok((name, wanted, Found::of(name, dirs)?)));
        let wanted: Vec<_> = wanted.collect::<Result<_>>()?;
        let leading = wanted.iter().position(|(_, _, found)| found.is_open);
        let all = place.within(|| {
            let mut all = Vec::new();
            for (n, (name, wanted, found)) in wanted.into_iter().enumerate() {
                let ports = match leading == Some(n) {
                    true => ports::reserve(container, |port| found.bridge.reserve(port))?,
                    false => Vec::new(),
                };
                let wish = Wish {
                    id: &container.id,
                    ports,
                    address: wanted.address,
                    six: wanted.six,
                };
                all.push(Plug::lease(name, format!("eth{n}"), found, wish)?);
            }
            Ok(all)
        })?;
        Ok(Plugs { place, all })
    }

    /// Plugs the container's network namespace in everywhere. Loopback is up in it then.
    ///
    /// # Errors
    /// The kernel refused a message; nothing is kept.
    pub fn attach(&mut self, netns: BorrowedFd<'_>) -> Result<()> {
        let leased = mem::take(&mut self.all);
        self.all = self.place.within(|| {
            let plugged = leased.into_iter().map(|plug| plug.attach(netns));
            plugged.collect::<Result<_>>()
        })?;
        Ok(())
    }

    /// Its addresses.
    ///
    /// # Errors
    /// None that a lease which was given out could have.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        let mut all = Vec::new();
        for plug in &self.all {
            all.push(plug.held().address()?.ip().into());
            all.extend(plug.held().six().map(|six| IpAddr::from(six.ip())));
        }
        Ok(all)
    }

    /// The host, as the container sees it.
    pub fn gateway(&self) -> Option<Ipv4Addr> {
        let way = self.leading().or(self.all.first())?;
        way.held().gateway().ok()
    }

    /// Whether one of them was made by somebody: its containers find each other by their names.
    pub fn has_names(&self) -> bool {
        self.all.iter().any(|plug| plug.is_made)
    }

    /// What people are told about it.
    ///
    /// # Errors
    /// As [`addresses`](Plugs::addresses).
    pub fn seen(&self) -> Result<BTreeMap<String, state::Endpoint>> {
        let leading = self.leading().map(|plug| &plug.name);
        let seen = self.all.iter().map(|plug| {
            let mut endpoint = plug.seen()?;
            endpoint.leads_out = leading == Some(&plug.name);
            Ok((plug.name.clone(), endpoint))
        });
        seen.collect()
    }

    /// The ports that lead to it.
    pub fn ports(&self) -> Vec<Port> {
        let leases = self.all.iter().map(Plug::held);
        leases
            .flat_map(|lease| lease.ports().map(ports::of).collect::<Vec<_>>())
            .collect()
    }

    /// The one that has the way out.
    fn leading(&self) -> Option<&Plug> {
        self.all.iter().find(|plug| plug.is_open)
    }
}

impl Drop for Plugs {
    fn drop(&mut self) {
        let all = mem::take(&mut self.all);
        if all.is_empty() {
            return;
        }
        let gone = self.place.within(|| {
            drop(all);
            Ok(())
        });
        if let Err(error) = gone {
            tracing::warn!("the networks of a container are not taken down: {error:#}");
        }
    }
}

impl Plug {
    fn lease(name: &str, interface: String, found: Found, wish: Wish<'_>) -> Result<Plug> {
        let lease = found.bridge.lease(wish)?;
        Ok(Plug {
            name: name.to_owned(),
            interface,
            id: found.id,
            is_made: found.is_made,
            is_open: found.is_open,
            held: Held::Lease(Box::new(lease)),
        })
    }

    fn attach(self, netns: BorrowedFd<'_>) -> Result<Plug> {
        let held = match self.held {
            Held::Lease(lease) => Box::new(lease.attach(netns, &self.interface)?),
            Held::Endpoint(endpoint) => endpoint,
        };
        let held = Held::Endpoint(held);
        Ok(Plug { held, ..self })
    }

    fn held(&self) -> &Lease {
        match &self.held {
            Held::Lease(lease) => lease,
            Held::Endpoint(endpoint) => endpoint.lease(),
        }
    }

    fn seen(&self) -> Result<state::Endpoint> {
        let lease = self.held();
        let (address, six) = (lease.address()?, lease.six());
        let mac = lease.hardware_address().map(|byte| format!("{byte:02x}"));
        Ok(state::Endpoint {
            network: self.id.clone(),
            interface: self.interface.clone(),
            address: Some(address.ip()),
            prefix: address.prefix(),
            gateway: Some(lease.gateway()?),
            six: six.map(|six| six.ip()),
            prefix6: six.map_or(0, |six| six.prefix()),
            gateway6: lease.gateway6(),
            mac: mac.join(":"),
            leads_out: false,
        })
    }
}
