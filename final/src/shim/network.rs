//! A container's place in the network, from before its birth until after its end.
//!
//! ```text
//! prepare   ports of the host, an address (a lease), hosts, hostname, resolv.conf
//! attach    the cable, or a carrier; the container is held at the gate
//! drop      everything is given back
//! ```
//!
//! What is held here dies with the shim, of kill -9 too: the kernel closes sockets, drops the lock on
//! the lease and ends the carrier. The link and the rules stay, until the next command [`sweep`]s.

mod files;
mod ports;
pub mod relay;
pub mod shared;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use cli::Dirs;
use network::bridge::{Bridge, Endpoint, Lease, Wish};
use network::{Carrier, Publish, Reserved, Target};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::runtime;
use crate::state::{self, Container, HostConfig, Places, Port};
use files::Files;

/// What a container is connected to: `--network`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// An address of its own, and a way outside.
    Bridge,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
    /// That of another container, by its id.
    Container(String),
    /// One that people made, by its name.
    Named(String),
}

impl Mode {
    /// That of a container.
    ///
    /// # Errors
    /// There is no such network.
    pub fn of(host: &HostConfig) -> Result<Mode> {
        Ok(match host.network_mode.as_str() {
            "" | "default" | "bridge" => Mode::Bridge,
            "none" => Mode::None,
            "host" => Mode::Host,
            other => match other.strip_prefix("container:") {
                Some(id) if !id.is_empty() => Mode::Container(id.to_owned()),
                Some(_) => bail!("invalid container format container:<name|id>"),
                None => Mode::Named(other.to_owned()),
            },
        })
    }
}

/// What a container's network will be. Nothing of it is up yet. Dropping it gives all back.
#[must_use]
pub struct Network {
    way: Way,
    /// Where the container is to be born; `None`: in a new one.
    netns: Option<File>,
    run: PathBuf,
}

enum Way {
    /// Nothing of its own.
    Shared,
    Loopback,
    Leased(Box<Lease>),
    Carried(Vec<Publish>),
}

/// A network that is up. Dropping it undoes everything: cable and rules, the lease and the ports.
#[must_use]
pub struct Attached {
    _connection: Option<Connection>,
}

/// What is told about it.
#[derive(Debug, Default)]
pub struct Seen {
    /// The container's places, by the networks' names.
    pub networks: BTreeMap<String, state::Endpoint>,
    /// The ports that are published.
    pub ports: Vec<Port>,
}

/// Only held, to be dropped.
enum Connection {
    Plugged(#[expect(dead_code)] Box<Endpoint>),
    Carried(#[expect(dead_code)] Carrier),
}

impl Network {
    /// Takes what the container needs of the host, and writes its hosts, hostname and resolv.conf.
    ///
    /// # Errors
    /// A port of the host is taken; no address is free; the host's network may not be changed.
    pub fn prepare(container: &Container, places: &Places, dirs: &Dirs) -> Result<Network> {
        let mode = Mode::of(&container.host)?;
        let way = match mode.clone() {
            Mode::Bridge if network::is_privileged()? => {
                let bridge = Bridge::standard(&dirs.run)?;
                let ports = ports::reserve(container, |port| bridge.reserve(port))?;
                Way::Leased(Box::new(bridge.lease(Wish {
                    id: &container.id,
                    ports,
                    address: None,
                    six: None,
                })?))
            }
            Mode::Bridge => {
                let reserved = ports::reserve(container, Publish::reserve)?;
                // Not held: the container, when it is born, would hold them too, and it is the
                // carrier that needs them.
                Way::Carried(reserved.iter().map(Reserved::port).collect())
            }
            Mode::None => Way::Loopback,
            Mode::Named(name) => bail!("network {name} not found"),
            // Docker ignores -p there, and says so where it is asked for.
            Mode::Host | Mode::Container(_) => Way::Shared,
        };
        if let Some(files) = way.files(&mode)? {
            files.write(container, &places.data)?;
        }
        let is_own = matches!(mode, Mode::Bridge | Mode::None);
        let netns = (is_own && is_hidden(&container.host)).then(network::new_netns);
        Ok(Network {
            way,
            netns: netns.transpose()?,
            run: places.run.clone(),
        })
    }

    /// Tells the runtime where the container is to be born.
    pub fn enter(&self, spec: &mut Spec) {
        let Some(netns) = &self.netns else { return };
        let place = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
        let linux = spec.linux_mut().as_mut();
        let mut all = linux.and_then(|linux| linux.namespaces_mut().as_mut());
        for namespace in all.iter_mut().flat_map(|all| all.iter_mut()) {
            if namespace.typ() == LinuxNamespaceType::Network {
                namespace.set_path(Some(place.clone().into()));
            }
        }
    }

    /// Connects a process' network namespace. To be called while the process is held, so that its
    /// pid is its own and its program finds the network up. Starts a thread, which has ended when
    /// this returns.
    ///
    /// # Errors
    /// The kernel refused a message, or the carrier failed; what was made is unmade.
    pub fn attach(self, pid: Pid) -> Result<(Attached, Seen)> {
        let Network { way, netns, run } = self;
        let seen = way.seen()?;
        let netns = || netns.map_or_else(|| network::netns_of(pid), Ok);
        let connection = match way {
            Way::Shared => None,
            Way::Loopback => {
                network::loopback_up_in(netns()?.as_fd())?;
                None
            }
            Way::Leased(lease) => {
                let endpoint = lease.attach(netns()?.as_fd(), "eth0")?;
                Some(Connection::Plugged(Box::new(endpoint)))
            }
            Way::Carried(ports) => {
                // The carrier brings it up as well; but there may be none.
                let netns = netns()?;
                network::loopback_up_in(netns.as_fd())?;
                let to = Target::Netns(netns);
                Carrier::connect(&to, &ports, &run)?.map(Connection::Carried)
            }
        };
        let seen = connection.as_ref().map_or_else(Default::default, |_| seen);
        let _connection = connection;
        Ok((Attached { _connection }, seen))
    }
}

impl Way {
    /// The container's names, and those whom it asks; `None`: another container's are its own.
    fn files(&self, mode: &Mode) -> Result<Option<Files>> {
        Ok(Some(match (mode, self) {
            (Mode::Container(_), _) => return Ok(None),
            (Mode::Host, _) => Files::of_host()?,
            (_, Way::Leased(lease)) => {
                let gateway = lease.gateway()?;
                Files::own(Some(lease.address()?.ip()), None, Some(gateway))
            }
            (_, Way::Carried(_)) => {
                let server = Some(IpAddr::from(Carrier::NAMESERVER));
                Files::own(Some(Carrier::ADDRESS), server, way_to_host())
            }
            _ => Files::own(None, None, None),
        }))
    }

    /// What people are told about it.
    fn seen(&self) -> Result<Seen> {
        let (endpoint, ports) = match self {
            Way::Shared | Way::Loopback => return Ok(Seen::default()),
            Way::Leased(lease) => {
                let address = lease.address()?;
                let mac = lease.hardware_address().map(|byte| format!("{byte:02x}"));
                let endpoint = state::Endpoint {
                    interface: "eth0".to_owned(),
                    address: Some(address.ip()),
                    prefix: address.prefix(),
                    gateway: Some(lease.gateway()?),
                    mac: mac.join(":"),
                    leads_out: true,
                    ..state::Endpoint::default()
                };
                (endpoint, lease.ports().map(ports::of).collect())
            }
            Way::Carried(ports) => {
                // The hardware address is the carrier's choice.
                let endpoint = state::Endpoint {
                    interface: "eth0".to_owned(),
                    address: Some(Carrier::ADDRESS),
                    prefix: Carrier::PREFIX,
                    gateway: Some(Carrier::GATEWAY),
                    leads_out: true,
                    ..state::Endpoint::default()
                };
                (endpoint, ports.iter().copied().map(ports::of).collect())
            }
        };
        Ok(Seen {
            networks: BTreeMap::from([(state::Network::DEFAULT.to_owned(), endpoint)]),
            ports,
        })
    }
}

/// Whether the container will be born where nobody may look at it, we neither: among the processes of
/// another (the leaf's `Isolation::joined`). Root may, but not root of a user namespace.
fn is_hidden(host: &HostConfig) -> bool {
    let modes = [&host.pid_mode, &host.ipc_mode, &host.uts_mode];
    runtime::is_in_user_namespace() && modes.iter().any(|mode| mode.starts_with("container:"))
}

/// The host's address to which a program of the host's answers a carrier: that of its way outside.
fn way_to_host() -> Option<Ipv4Addr> {
    // connect(2) of UDP sends nothing: it looks up the route to an address (here one of RFC 5737).
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

/// Removes what containers left behind whose shims were killed: cables, rules and leases.
///
/// # Errors
/// What the kernel refuses.
pub fn sweep(dirs: &Dirs) -> Result<()> {
    if !dirs.run.join("network").is_dir() || !network::is_privileged()? {
        return Ok(());
    }
    Bridge::standard(&dirs.run)?
        .sweep()
        .context("remove what dead containers left in the network")
}
