//! A container's places in networks with bridges: promised by a lease, then a cable each.
//!
//! They are in docker's order, `eth0` first. The first that is not internal leads out: it has the
//! default route, and the published ports. When the container leaves that one, the next has both.

use std::collections::BTreeMap;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use network::bridge::{Endpoint, Lease, Wish};

use super::files::{Files, Servers};
use super::ports;
use super::relay::Relay;
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
    /// The ports of the host that lead here, and who copies where the kernel cannot turn round.
    ports: Vec<Port>,
    relay: Option<Relay>,
}

/// What such a place is to be.
struct Share {
    network: state::Network,
    wanted: Wanted,
    interface: String,
    /// Whether it is the way out.
    leads: bool,
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
        let mut plugs = Plugs::none(place);
        for (n, (network, wanted)) in wanted.into_iter().enumerate() {
            let share = Share {
                network,
                wanted,
                interface: format!("eth{n}"),
                leads: leading == Some(n),
            };
            let plug = Plug::lease(share, &plugs.place, container, dirs)?;
            plugs.all.push(plug);
        }
        Ok(plugs)
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
        // Each is dropped where the bridges are, whatever becomes of it.
        let mut leased = Plugs {
            place: Rc::clone(&self.place),
            all: mem::take(&mut self.all),
        };
        while !leased.all.is_empty() {
            let plug = leased.all.remove(0);
            self.all.push(plug.attach(&self.place, netns)?);
        }
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
        let share = Share {
            leads: self.leading().is_none() && !network.internal,
            network,
            wanted: container
                .host
                .networks
                .get(name)
                .cloned()
                .unwrap_or_default(),
            interface: self.free_interface(),
        };
        let plug = Plug::lease(share, &self.place, container, dirs)?;
        self.all.push(plug.attach(&self.place, netns)?);
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

    /// Lays the cables again that somebody took away altogether.
    ///
    /// # Errors
    /// The kernel refused a message.
    pub fn lay_again(&self, netns: BorrowedFd<'_>) -> Result<()> {
        for plug in &self.all {
            let Held::Endpoint(endpoint) = &plug.held else {
                continue;
            };
            let interface = plug.interface.as_str();
            let laid = (self.place).within(|| endpoint.lay_again(netns, interface));
            laid.with_context(|| format!("lay the cable to network {}", plug.network.name))?;
        }
        Ok(())
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
        let host = match *self.place {
            Place::Here => host.map(|plug| plug.held().gateway()).transpose()?,
            // The gateway is none of the host's there.
            Place::Shared(..) => super::way_to_host(),
        };
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

    /// The ports that lead to it.
    pub fn ports(&self) -> Vec<Port> {
        let ports = self.all.iter().flat_map(|plug| &plug.ports);
        ports.cloned().collect()
    }

    /// Who copies what is sent to some of them.
    pub fn relay(&self) -> Option<&Relay> {
        self.all.iter().find_map(|plug| plug.relay.as_ref())
    }

    /// The same, to be attended to.
    pub fn relay_mut(&mut self) -> Option<&mut Relay> {
        self.all.iter_mut().find_map(|plug| plug.relay.as_mut())
    }

    /// Where the bridges are; `None` while somebody else has it, too.
    pub fn place(&mut self) -> Option<&mut Place> {
        Rc::get_mut(&mut self.place)
    }

    /// What can be read when nothing connects them to the outside any more.
    pub fn isolation(&self) -> Option<BorrowedFd<'_>> {
        self.place.isolation()
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
    if let Err(error) = place.within(|| source.hand_ports_to(target)) {
        from.lead_out(netns)
            .context("give the default route back")?;
        return Err(error);
    }
    to.ports = mem::take(&mut from.ports);
    to.relay = from.relay.take();
    to.aim();
    Ok(())
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
    /// Takes an address, and where it leads out the container's ports of the host.
    fn lease(share: Share, place: &Place, container: &Container, dirs: &Dirs) -> Result<Plug> {
        let bridge = share.network.bridge(dirs)?;
        // Taken here, wherever the bridge is: that is who is called.
        let ports = match share.leads {
            true => {
                let binding = share.network.binding()?;
                ports::reserve(container, binding, |port| bridge.reserve(port))?
            }
            false => Vec::new(),
        };
        let published = ports.iter().map(|port| ports::of(port.port())).collect();
        let relay = match place.netns() {
            None => ports::relay(ports.iter().filter(ports::is_six), None)?,
            // No rule leads from here to there.
            Some(netns) => {
                let netns = netns.try_clone().context("dup a network namespace")?;
                ports::relay(ports.iter(), Some(netns))?
            }
        };
        let wish = Wish {
            id: &container.id,
            ports,
            address: share.wanted.address,
            six: share.wanted.six,
        };
        let lease = place.within(|| bridge.lease(wish));
        let lease = lease.with_context(|| format!("join the network {}", share.network.name))?;
        let lease = match share.wanted.hardware {
            Some(hardware) => lease.with_hardware_address(hardware),
            None => lease,
        };
        let mut plug = Plug {
            network: share.network,
            interface: share.interface,
            held: Held::Lease(Box::new(lease)),
            ports: published,
            relay,
        };
        plug.aim();
        Ok(plug)
    }

    /// Plugs a network namespace in.
    fn attach(self, place: &Place, netns: BorrowedFd<'_>) -> Result<Plug> {
        let Plug {
            held,
            interface,
            network,
            ports,
            relay,
        } = self;
        let held = match held {
            Held::Endpoint(endpoint) => endpoint,
            Held::Lease(lease) => Box::new(place.within(|| lease.attach(netns, &interface))?),
        };
        Ok(Plug {
            held: Held::Endpoint(held),
            interface,
            network,
            ports,
            relay,
        })
    }

    /// Makes it the way out of a network namespace, in the place of any other.
    fn lead_out(&self, netns: BorrowedFd<'_>) -> Result<()> {
        network::lead_out(netns, self.held().gateway()?, self.held().gateway6())
    }

    /// Has copied what is sent to its ports to its own address: by IPv6 what comes by IPv6, if it has
    /// such an address.
    fn aim(&mut self) {
        let (four, six) = (self.held().address(), self.held().six());
        let (Some(relay), Ok(four)) = (&mut self.relay, four) else {
            return;
        };
        relay.lead_to(|port| {
            let is_six = port.address.is_some_and(|address| address.is_ipv6());
            let six = six.filter(|_| is_six).map(|six| six.ip().into());
            SocketAddr::new(six.unwrap_or(four.ip().into()), port.container)
        });
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

fn find(name: &str, dirs: &Dirs) -> Result<state::Network> {
    let [default, ..] = state::Network::predefined();
    match name == default.name {
        true => Ok(default),
        false => state::Network::find(dirs, name),
    }
}
