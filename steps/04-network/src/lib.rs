//! A network for a container.
//!
//! A container is born into an empty network namespace: a `lo` that is down, and nothing else. As
//! root, this crate plugs it into a bridge, which is what a switch is on a desk:
//!
//! ```text
//!   the container's namespace      the host's namespace
//!   ┌─────────────────────┐        ┌──────────────────────────────────────────┐
//!   │ lo    127.0.0.1     │  veth  │                 mini0          eth0      │
//!   │ eth0  10.88.0.2 ────┼────────┼─ veth0a580002 ─ 10.88.0.1 ──── the world │
//!   │ default via .0.1    │        │      another ─┘      nf_tables: who is   │
//!   └─────────────────────┘        │                      turned into whom    │
//!                                  └──────────────────────────────────────────┘
//! ```
//!
//! - [`bridge`]: the subnet, and the lease on an address of it, which outlives no container;
//! - `leases`: how that lies on disk;
//! - `links` and `request`: bridge, veth pair, addresses and routes, by rtnetlink;
//! - `router`: what makes the host one;
//! - `nat`, `rule` and `nft`: what is turned into what, and how nf_tables is told;
//! - `firewall`: whose rules may be in the way;
//! - `detour`: a port of a namespace's own that is answered at another;
//! - `flows`: what the kernel must forget of those who went there before;
//! - `netlink`: how both are sent, and answered;
//! - [`files`]: resolv.conf, hosts and hostname;
//! - `strays`: what nobody alive needs any more;
//! - `undertaker`: who waits while the kernel frees links;
//! - `user`: the way outside for those who are not root.
//!
//! No `ip`, `iptables` or `nft` is run. [`Network`] puts it together for a container with one
//! network; who wants more takes [`bridge::Bridge`] and [`files::Files`] themselves.

#![warn(missing_docs)]

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;

pub mod bridge;
mod detour;
pub mod files;
mod firewall;
mod flows;
mod leases;
mod links;
mod nat;
mod netlink;
mod nft;
mod publish;
mod request;
mod router;
mod rule;
mod strays;
mod undertaker;
mod user;

use bridge::{Bridge, Endpoint, Lease, Wish};
pub use detour::detour;
use files::{Files, Identity};
pub use links::{is_privileged, loopback_up, new_netns, routes, within};
pub use publish::{Protocol, Publish, Reserved};
pub use strays::{leftovers, sweep};
pub use user::{Carrier, Target};

/// What kind of network a container is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// An address of its own, and a way outside.
    #[default]
    Bridge,
    /// Loopback only.
    None,
}

impl FromStr for Mode {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bridge" => Ok(Mode::Bridge),
            "none" => Ok(Mode::None),
            _ => bail!("it can be bridge or none"),
        }
    }
}

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// Where state is kept that a reboot may lose, such as /run/minidocker.
    pub run_dir: &'a Path,
    /// The kind of network.
    pub mode: Mode,
    /// Whether we may change the host's own network (CAP_NET_ADMIN). Without, the container's
    /// network namespace must belong to a user namespace of ours.
    pub privileged: bool,
    /// Ports of the host that lead to the container.
    pub ports: &'a [Publish],
}

/// What one container's network will be: files, and as root a lease on an address. Nothing of it
/// is up yet. Dropping it gives all back.
pub struct Network {
    way: Way,
    files: Files,
}

enum Way {
    Loopback,
    Leased(Box<Lease>),
    Carried(Vec<Publish>),
}

/// A network that is up. Dropping it undoes everything: link and rules, lease, files, and with the
/// last container the bridge.
pub struct Attached {
    _connection: Option<Connection>,
    _files: Files,
}

/// Only held, to be dropped.
enum Connection {
    Plugged(#[expect(dead_code)] Box<Endpoint>),
    Carried(#[expect(dead_code)] Carrier),
}

impl Network {
    /// Prepares a network for the container `id`, after removing what dead containers left. Starts
    /// no thread.
    ///
    /// # Errors
    /// A port of the host is taken; no address is free; the host's network may not be changed.
    pub fn open(settings: &Settings<'_>, id: &str, hostname: &str) -> Result<Self> {
        let Settings {
            run_dir,
            mode,
            privileged,
            ports,
        } = *settings;
        ensure!(
            mode == Mode::Bridge || ports.is_empty(),
            "a container without a network cannot publish ports: leave out -p, or --network none"
        );
        ensure!(
            ports
                .iter()
                .all(|port| !port.address.is_some_and(|ip| ip.is_ipv6())),
            "the container has no IPv6 address: publish ports on IPv4 addresses only"
        );
        let (way, address, nameserver) = match (mode, privileged) {
            (Mode::Bridge, true) => {
                let bridge = Bridge::standard(run_dir)?;
                let ports = ports.iter().map(|port| bridge.reserve(port));
                let lease = bridge.lease(Wish {
                    id,
                    ports: ports.collect::<Result<_>>()?,
                    address: None,
                    six: None,
                })?;
                let address = lease.address()?.ip();
                (Way::Leased(Box::new(lease)), Some(address), None)
            }
            (Mode::Bridge, false) => (
                Way::Carried(ports.to_vec()),
                Some(Carrier::ADDRESS),
                Some(Carrier::NAMESERVER),
            ),
            (Mode::None, _) => {
                if privileged {
                    Bridge::standard(run_dir)?.sweep()?;
                }
                (Way::Loopback, None, None)
            }
        };
        let files = Files::write(
            run_dir,
            &Identity {
                id,
                hostname,
                address,
                nameserver,
            },
        )?;
        Ok(Self { way, files })
    }

    /// resolv.conf, hosts and hostname: each a file of the host, and where it belongs in the
    /// container.
    pub fn files(&self) -> [(PathBuf, &'static str); 3] {
        self.files.list()
    }

    /// Whether the container has to call [`loopback_up`] itself: only as root, and on a bridge, is
    /// it done from outside.
    pub fn needs_loopback(&self) -> bool {
        !matches!(self.way, Way::Leased(_))
    }

    /// Connects the network namespace of a process. Call it while the process is held, so that its
    /// pid is its own and its program finds the network up.
    ///
    /// # Errors
    /// The kernel refused a message, which is named; what was made is unmade.
    pub fn attach(self, pid: Pid) -> Result<Attached> {
        let Self { way, files } = self;
        let _connection = match way {
            Way::Loopback => None,
            Way::Leased(lease) => {
                let netns = netns_of(pid)?;
                Some(Connection::Plugged(Box::new(
                    lease.attach(netns.as_fd(), "eth0")?,
                )))
            }
            Way::Carried(ports) => {
                let to = Target::Process(pid);
                Carrier::connect(&to, &ports, files.directory())?.map(Connection::Carried)
            }
        };
        Ok(Attached {
            _connection,
            _files: files,
        })
    }
}

/// The network namespace of a process, held open.
///
/// # Errors
/// The process has ended, or is not ours to look at.
pub fn netns_of(pid: Pid) -> Result<File> {
    let path = format!("/proc/{pid}/ns/net");
    File::open(&path).with_context(|| format!("open {path}"))
}

/// Sets a container's default routes, in the place of those it has.
///
/// # Errors
/// The gateway is out of reach.
pub fn lead_out(
    netns: BorrowedFd<'_>,
    gateway: Ipv4Addr,
    gateway6: Option<Ipv6Addr>,
) -> Result<()> {
    within(netns, || links::lead_out(gateway, gateway6))
}

/// Sets `lo` up in another network namespace, for a container without a bridge.
pub fn loopback_up_in(netns: BorrowedFd<'_>) -> Result<()> {
    within(netns, loopback_up)
}
