//! A container's place in the network, from before its birth until after its end.
//!
//! ```text
//! prepare   an address in each network (a lease), ports of the host, hosts, hostname, resolv.conf
//! attach    a cable each, or a carrier; the container is held at the gate
//! drop      everything is given back
//! ```
//!
//! What is held here dies with the shim, of kill -9 too: the kernel closes sockets, drops the locks on
//! the leases and ends the carrier. The links and the rules stay, until the next command [`sweep`]s.

mod again;
mod attached;
mod carried;
mod changes;
mod edits;
mod files;
mod plugs;
mod ports;
pub mod relay;
pub mod shared;
pub mod uplink;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Context, Result};
use cli::Dirs;
use network::{Carrier, Publish, Reserved};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::keeper::Asking;
use crate::runtime;
use crate::state::{self, Container, HostConfig, Places};
use again::Again;
pub use attached::Attached;
use attached::{Connection, Names};
use carried::Carried;
pub use changes::Change;
use files::{Files, Servers};
use plugs::Plugs;
use shared::Place;

/// What a container is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Networks, in each of which it has an address of its own.
    Networks,
    /// Loopback only.
    None,
    /// The host's own network.
    Host,
    /// That of another container.
    Container,
}

impl Mode {
    fn of(host: &HostConfig) -> Mode {
        match host.network_mode.as_str() {
            "none" => Mode::None,
            "host" => Mode::Host,
            mode if mode.starts_with("container:") => Mode::Container,
            _ => Mode::Networks,
        }
    }
}

/// What a container's network will be. Nothing of it is up yet. Dropping it gives all back.
#[must_use]
pub struct Network {
    way: Way,
    /// Where the container is to be born; `None`: in a new one.
    netns: Option<File>,
    places: Places,
    /// Its resolv.conf, as it is written.
    resolv_conf: String,
}

enum Way {
    /// Nothing of its own.
    Shared,
    Loopback,
    Plugged(Plugs),
    /// The ports that a carrier takes, and those that are taken for a relay.
    Carried(Vec<Publish>, Vec<Reserved>),
}

impl Network {
    /// Takes what the container needs of the host, and writes its hosts, hostname and resolv.conf.
    ///
    /// # Errors
    /// A network is gone; a port of the host is taken; no address is free; the host's network may not
    /// be changed.
    pub fn prepare(container: &Container, places: &Places, dirs: &Dirs) -> Result<Network> {
        let mode = Mode::of(&container.host);
        let way = match mode {
            Mode::None => Way::Loopback,
            // Docker ignores -p there, and says so where it is asked for.
            Mode::Host | Mode::Container => Way::Shared,
            Mode::Networks => match bridges(container, dirs)? {
                Some(place) => Way::Plugged(Plugs::lease(place, container, dirs)?),
                None => {
                    let reserved = ports::reserve(container, None, Publish::reserve)?;
                    let six = |port: &Reserved| ports::is_six(&port);
                    let (copied, carried): (Vec<_>, Vec<_>) = reserved.into_iter().partition(six);
                    // Not held: the container, when it is born, would hold them too, and it is the
                    // carrier that needs them. IPv6 it does not carry.
                    let carried = carried.iter().map(Reserved::port).collect();
                    Way::Carried(carried, copied)
                }
            },
        };
        let files = way.files(mode)?;
        let resolv_conf = files.map(|files| files.write(container, &places.data));
        let is_own = !matches!(way, Way::Shared);
        let netns = (is_own && is_hidden(&container.host)).then(network::new_netns);
        Ok(Network {
            way,
            netns: netns.transpose()?,
            places: places.clone(),
            resolv_conf: resolv_conf.transpose()?.unwrap_or_default(),
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

    /// Connects the network namespace of the container's first process. To be called while that is
    /// held, so that its pid is its own and its program finds the network up. Starts threads, which
    /// have ended when this returns.
    ///
    /// # Errors
    /// The kernel refused a message, or the carrier failed; what was made is unmade.
    pub fn attach(self, pid: Pid, container: &Container, dirs: &Dirs) -> Result<Attached> {
        let Network {
            way,
            netns,
            places,
            resolv_conf,
        } = self;
        let netns = match way {
            Way::Shared => None,
            _ => Some(netns.map_or_else(|| network::netns_of(pid), Ok)?),
        };
        let mut asking = None;
        let connection = match (way, &netns) {
            (Way::Plugged(mut plugs), Some(netns)) => {
                // The keeper of names makes itself ready while the cables are laid.
                let ask = || Asking::of(dirs, &container.id, netns.as_fd());
                asking = plugs.has_names().then(ask);
                plugs.attach(netns.as_fd())?;
                Some(Connection::Plugged(plugs))
            }
            (Way::Carried(ports, copied), Some(netns)) => {
                // The carrier brings it up as well; but there may be none.
                network::loopback_up_in(netns.as_fd())?;
                let carried = Carried::connect(netns, ports, &copied, &places.run)?;
                carried.map(|carried| Connection::Carried(Box::new(carried)))
            }
            (Way::Loopback, Some(netns)) => {
                network::loopback_up_in(netns.as_fd())?;
                None
            }
            _ => None,
        };
        Ok(Attached {
            connection,
            names: asking.and_then(Names::settled),
            netns,
            outside: Again::default(),
            places,
            resolv_conf,
        })
    }
}

impl Way {
    /// The container's names, and those whom it asks; `None`: another container's are its own.
    fn files(&self, mode: Mode) -> Result<Option<Files>> {
        Ok(Some(match (mode, self) {
            (Mode::Container, _) => return Ok(None),
            (Mode::Host, _) => Files::of_host()?,
            (_, Way::Plugged(plugs)) => plugs.files()?,
            (_, Way::Carried(..)) => {
                let servers = Servers::Carrier(Carrier::NAMESERVER.into());
                Files::own(vec![Carrier::ADDRESS.into()], servers, way_to_host())
            }
            _ => Files::own(Vec::new(), Servers::Reachable, None),
        }))
    }
}

/// Where the container's bridges are; `None`: it has none.
fn bridges(container: &Container, dirs: &Dirs) -> Result<Option<Place>> {
    if network::is_privileged()? {
        return Ok(Some(Place::Here));
    }
    let made = |(name, _): &(&str, _)| *name != state::Network::DEFAULT;
    let is_in_one = container.host.memberships().iter().any(made);
    is_in_one
        .then(|| Place::shared(container, dirs))
        .transpose()
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

/// Removes what containers left behind whose shims were killed, in each network: cables, rules and
/// leases.
///
/// # Errors
/// What the kernel refuses.
pub fn sweep(dirs: &Dirs) -> Result<()> {
    if !dirs.run.join("network").is_dir() {
        return Ok(());
    }
    let sweep = || {
        network::sweep(&dirs.run, true)?;
        Ok(String::new())
    };
    let swept = within(dirs, sweep).context("remove what dead containers left in the network");
    swept.map(drop)
}

/// Works where bridges are, and answers what the work does; `None`: there are none, for nobody is in
/// this user's networks. To be called by a process with one thread.
///
/// # Errors
/// What the work says; there can be no process that does it.
pub fn within(dirs: &Dirs, work: impl Fn() -> Result<String>) -> Result<Option<String>> {
    match network::is_privileged()? {
        true => work().map(Some),
        false => uplink::within(dirs, work),
    }
}
