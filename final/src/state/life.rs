//! Where a container is in its life.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Port;

/// Docker's states, by its names.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has never run.
    #[default]
    Created,
    /// Its first process runs.
    Running,
    /// Its processes are stopped where they are.
    Paused,
    /// Its shim waits to start it again.
    Restarting,
    /// Somebody removes it, or died doing that.
    Removing,
    /// Its first process has ended.
    Exited,
    /// Nothing is known of it: its state is damaged.
    Dead,
}

impl Status {
    /// Whether its command runs, or would if it were let. Between two runs it is in no network.
    #[must_use]
    pub fn has_processes(self) -> bool {
        matches!(self, Status::Running | Status::Paused)
    }

    /// Whether there has to be a shim.
    #[must_use]
    pub fn needs_shim(self) -> bool {
        matches!(self, Status::Running | Status::Paused | Status::Restarting)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// What has happened to a container so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Life {
    /// As it was when this was written; without a shim it may be over.
    pub status: Status,
    /// The first process, as the host numbers it; 0 without one.
    pub pid: i32,
    /// How it ended last: its own status, or 128 + the signal.
    pub exit_code: u8,
    /// Why it could not be started.
    pub error: String,
    /// Whether the kernel killed one of its processes for want of memory.
    pub oom_killed: bool,
    /// When it was started last.
    pub started: Option<Timestamp>,
    /// When it ended last.
    pub finished: Option<Timestamp>,
    /// How often its policy has started it again since somebody did.
    pub restarts: u32,
    /// Whether somebody asked it to end, which no policy goes against.
    pub stopped_by_hand: bool,
    /// The networks that it is in while it runs, by their names.
    pub networks: BTreeMap<String, Endpoint>,
    /// The ports that are published while it runs, with the host's that were picked.
    pub ports: Vec<Port>,
}

impl Life {
    /// It is in no network any more.
    pub fn unplug(&mut self) {
        self.networks.clear();
        self.ports.clear();
    }

    /// Its place in the network that leads outside, or in the first.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        let mut all = self.networks.values();
        let first = all.clone().next();
        all.find(|endpoint| endpoint.leads_out).or(first)
    }
}

/// A container's place in one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// The network's id; empty for what is no network of anybody's: a carrier's.
    pub network: String,
    /// How the container calls the link: `eth0`.
    pub interface: String,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// The length of its subnet's prefix, in bits.
    pub prefix: u8,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub six: Option<Ipv6Addr>,
    /// The length of that prefix.
    pub prefix6: u8,
    /// The way out for IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// The hardware address.
    pub mac: String,
    /// Whether the container's default route leads here.
    pub leads_out: bool,
}
