//! A container's places in networks with bridges: promised by a lease, then a cable each.
//!
//! They are in docker's order, `eth0` first. The first that is not internal leads out: it has the
//! default route, and the published ports. When the container leaves that one, the next has both.

use std::collections::BTreeMap;
use std::fs::File;
use std::mem;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use network::Reserved;
use network::bridge::{Endpoint, Lease, Wish};

use super::files::{Files, Servers};
use super::ports;
use super::relay::Way;
use super::shared::Place;
use crate::state::{self, Container, Port, Wanted};

/// The networks of one container, in docker's order. Dropping it gives everything back, there where
/// the bridges are.
pub struct Plugs {
    place: Rc<Place>,
    all: Vec<Plug>,
}

/// A place in one of them.
struct Plug {
    network: state::Network,
    /// As the container calls its end of the cable.
    interface: String,
    held: Held,
}

/// What such a place is to be.
struct Share {
    network: state::Network,
    wanted: Wanted,
    interface: String,
    /// The container's ports of the host, where it is the way out.
    ports: Vec<Reserved>,
}

enum Held {
    Lease(Box<Lease>),
    Endpoint(Box<Endpoint>),
}

impl Plugs {
    /// Takes an address in each network that the container is to be in, and its ports of the host in
    /// the first that leads out: in none where none does, as docker has it.
    ///
    /// # Errors
    /// A network is gone; a port of the host is taken; no address is free. Nothing is kept then.
    pub fn lease(place: Place, container: &Container, dirs: &Dirs) -> Result<Plugs> {
        // Nobody removes a network before it is seen that somebody is in it.
        let _kept = state::Network::hold(dirs)?;
        let wanted = container.host.memberships().into_iter();
        let wanted = wanted.map(|(name, wanted)| Ok((find(name, dirs)?, wanted)));
        let wanted: Vec<_> = wanted.collect::<Result<_>>()?;
        let leading = wanted.iter().position(|(network, _)| !network.internal);
        let leader = leading
            .and_then(|n| wanted.get(n))
            .map(|(network, _)| network);
        let mut ports = Some(reserve(leader, container, dirs)?);
        let all = place.within(|| {
            let mut all = Vec::new();
            for (n, (network, wanted)) in wanted.into_iter().enumerate() {
                let share = Share {
                    network,
                    wanted,
                    interface: format!("eth{n}"),
                    ports: ports.take_if(|_| leading == Some(n)).unwrap_or_default(),
                };
                all.push(Plug::lease(share, container, dirs)?);
            }
            Ok(all)
        })?;
        let place = Rc::new(place);
        Ok(Plugs { place, all })
    }

    /// Those of a container that is in no network yet.
    pub fn none(place: Place) -> Plugs {
        Plugs {
            place: Rc::new(place),
            all: Vec::new(),
        }
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

    /// Plugs it into one more network, of those that it is to be in. Where none led out so far,
    /// this one does.
    ///
    /// # Errors
    /// As [`lease`](Plugs::lease) and [`attach`](Plugs::attach); or it is there already.
    pub fn join(
        &mut self,
        container: &Container,
        name: &str,
        netns: BorrowedFd<'_>,
        dirs: &Dirs,
    ) -> Result<&state::Network> {
        ensure!(
            !self.all.iter().any(|plug| plug.network.name == name),
            "endpoint with name {} already exists in network {name}",
            container.name
        );
        let _kept = state::Network::hold(dirs)?;
        let network = find(name, dirs)?;
        let leads = self.leading().is_none() && !network.internal;
        let share = Share {
            ports: reserve(leads.then_some(&network), container, dirs)?,
            network,
            wanted: container
                .host
                .networks
                .get(name)
                .cloned()
                .unwrap_or_default(),
            interface: self.free_interface(),
        };
        let plug = self
            .place
            .within(|| Plug::lease(share, container, dirs)?.attach(netns))?;
        self.all.push(plug);
        let plug = self.all.last().context("it has just been added")?;
        Ok(&plug.network)
    }

    /// Takes one network out. What leads out there leads to the next one from here on, the published
    /// ports among it. The cable stays until the answer is dropped; or it is [taken
    /// back](Plugs::take_back).
    ///
    /// # Errors
    /// It is not in that network; the kernel refused a message, and all is as it was.
    pub fn part(&mut self, name: &str, netns: BorrowedFd<'_>) -> Result<Parted> {
        let n = self.all.iter().position(|plug| plug.network.name == name);
        let n = n.with_context(|| format!("the container is not connected to network {name}"))?;
        let led = self.leading().is_some_and(|plug| plug.network.name == name);
        let plug = self.all.remove(n);
        let mut parted = Parted {
            network: plug.network.clone(),
            plugs: Plugs {
                place: Rc::clone(&self.place),
                all: vec![plug],
            },
            n,
        };
        let handed = match led {
            true => hand_over(&mut parted.plugs, self, netns),
            false => Ok(()),
        };
        match handed {
            Ok(()) => Ok(parted),
            Err(error) => {
                self.insert(parted);
                Err(error)
            }
        }
    }

    /// The opposite of [`part`](Plugs::part), for who cannot go through with it.
    ///
    /// # Errors
    /// The kernel refused a message.
    pub fn take_back(&mut self, mut parted: Parted, netns: BorrowedFd<'_>) -> Result<()> {
        let leads = parted.plugs.leading().is_some();
        let before = self.all.iter().take(parted.n);
        let led = leads && before.clone().all(|plug| plug.network.internal);
        let handed = match led {
            true => hand_over(self, &mut parted.plugs, netns),
            false => Ok(()),
        };
        self.insert(parted);
        handed
    }

    fn insert(&mut self, mut parted: Parted) {
        let n = parted.n.min(self.all.len());
        self.all.splice(n..n, mem::take(&mut parted.plugs.all));
    }

    /// Its name inside: the first that is free.
    fn free_interface(&self) -> String {
        let names = (0..=self.all.len()).map(|n| format!("eth{n}"));
        let taken = |name: &String| self.all.iter().any(|plug| plug.interface == *name);
        names
            .into_iter()
            .find(|name| !taken(name))
            .unwrap_or_default()
    }

    /// What the container's files are made of.
    ///
    /// # Errors
    /// None that a lease which was given out could have.
    pub fn files(&self) -> Result<Files> {
        let mut addresses = Vec::new();
        for plug in &self.all {
            addresses.push(plug.held().address()?.ip().into());
            addresses.extend(plug.held().six().map(|six| IpAddr::from(six.ip())));
        }
        let servers = match self.has_names() {
            true => Servers::Keeper,
            false => Servers::Reachable,
        };
        let host = self.leading().or(self.all.first());
        let host = host.map(|plug| plug.held().gateway()).transpose()?;
        Ok(Files::own(addresses, servers, host))
    }

    /// Whether one of them was made by somebody: its containers find each other by their names.
    pub fn has_names(&self) -> bool {
        self.all.iter().any(|plug| !plug.network.is_predefined())
    }

    /// What people are told about it.
    ///
    /// # Errors
    /// As [`files`](Plugs::files).
    pub fn seen(&self) -> Result<BTreeMap<String, state::Endpoint>> {
        let leading = self.leading().map(|plug| &plug.network.name);
        let seen = self.all.iter().map(|plug| {
            let mut endpoint = plug.seen()?;
            endpoint.leads_out = leading == Some(&plug.network.name);
            Ok((plug.network.name.clone(), endpoint))
        });
        seen.collect()
    }

    /// By which sockets a relay answers for it: what comes by them the kernel cannot turn round.
    ///
    /// # Errors
    /// A program of the host has one of the ports.
    pub fn ways(&self) -> Result<Vec<Way>> {
        let Some(lease) = self.leading().map(Plug::held) else {
            return Ok(Vec::new());
        };
        let address = lease.address()?.ip();
        let turned = self.place.netns().is_none();
        let ways = lease.reserved().map(|port| Way::of(port, address, turned));
        Ok(ways
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    }

    /// The address to which published ports lead.
    pub fn address(&self) -> Option<Ipv4Addr> {
        Some(self.leading()?.held().address().ok()?.ip())
    }

    /// From where a relay calls it; `None`: from here.
    pub fn netns(&self) -> Option<&File> {
        self.place.netns()
    }

    /// Where the bridges are; `None` while somebody else has it, too.
    pub fn place(&mut self) -> Option<&mut Place> {
        Rc::get_mut(&mut self.place)
    }

    /// What can be read when nothing connects them to the outside any more.
    pub fn isolation(&self) -> Option<BorrowedFd<'_>> {
        self.place.isolation()
    }

    /// The ports that lead to it.
    pub fn ports(&self) -> Vec<Port> {
        let leases = self.all.iter().map(Plug::held);
        leases
            .flat_map(|lease| lease.ports().map(ports::of).collect::<Vec<_>>())
            .collect()
    }

    fn leading_mut(&mut self) -> Option<&mut Plug> {
        self.all.iter_mut().find(|plug| !plug.network.internal)
    }

    /// The one that has the way out.
    fn leading(&self) -> Option<&Plug> {
        self.all.iter().find(|plug| !plug.network.internal)
    }
}

/// A network that a container is about to leave.
#[must_use]
pub struct Parted {
    network: state::Network,
    /// Only this one.
    plugs: Plugs,
    /// Where it was among the others.
    n: usize,
}

impl Parted {
    /// The network.
    pub fn network(&self) -> &state::Network {
        &self.network
    }
}

/// The way out is another network's from here on, and the ports of the host lead to the address
/// there. Where there is no other there is nothing to be done: both go with the cable.
fn hand_over(from: &mut Plugs, to: &mut Plugs, netns: BorrowedFd<'_>) -> Result<()> {
    let place = Rc::clone(&from.place);
    let (Some(from), Some(to)) = (from.leading_mut(), to.leading_mut()) else {
        return Ok(());
    };
    to.lead_out(netns)?;
    let (Held::Endpoint(source), Held::Endpoint(target)) = (&mut from.held, &mut to.held) else {
        return Ok(());
    };
    let moved = place.within(|| source.hand_ports_to(target));
    moved.inspect_err(|_| {
        if let Err(error) = from.lead_out(netns) {
            tracing::warn!("the default route is lost: {error:#}");
        }
    })
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
    /// Takes an address.
    fn lease(share: Share, container: &Container, dirs: &Dirs) -> Result<Plug> {
        let Share {
            network,
            wanted,
            interface,
            ports,
        } = share;
        let lease = network.bridge(dirs)?.lease(Wish {
            id: &container.id,
            ports,
            address: wanted.address,
            six: wanted.six,
        })?;
        Ok(Plug {
            network,
            interface,
            held: Held::Lease(Box::new(lease)),
        })
    }

    /// Makes it the way out of a network namespace, in the place of any other.
    fn lead_out(&self, netns: BorrowedFd<'_>) -> Result<()> {
        network::lead_out(netns, self.held().gateway()?, self.held().gateway6())
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
            network: self.network.id.clone(),
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

/// Takes the container's ports of the host, which are to lead into a network. Here, wherever its bridge
/// is: that is who is called.
fn reserve(
    network: Option<&state::Network>,
    container: &Container,
    dirs: &Dirs,
) -> Result<Vec<Reserved>> {
    let Some(network) = network else {
        return Ok(Vec::new());
    };
    let bridge = network.bridge(dirs)?;
    ports::reserve(container, |port| bridge.reserve(port))
}

fn find(name: &str, dirs: &Dirs) -> Result<state::Network> {
    let [default, ..] = state::Network::predefined();
    match name == default.name {
        true => Ok(default),
        false => state::Network::find(dirs, name),
    }
}
