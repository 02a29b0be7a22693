//! `network connect` and `network disconnect`

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use clap::Args;
use minidocker::engine::networks::Networks;
use minidocker::state::Wanted;

use crate::Context;

/// Put a container into one more network
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network connect --alias database back db")]
pub(crate) struct Connect {
    /// The network's name or id
    network: String,
    /// The container's
    container: String,
    /// What others call it there, beside its name
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Its address there
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address there
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<Ipv6Addr>,
}

impl Connect {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let wanted = Wanted {
            aliases: self.alias,
            address: self.ip,
            six: self.ip6,
            hardware: None,
        };
        Networks::open(&context.dirs).connect(&self.network, &self.container, wanted)?;
        Ok(0)
    }
}

/// Take a container out of a network
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network disconnect back db")]
pub(crate) struct Disconnect {
    /// The network's name or id
    network: String,
    /// The container's
    container: String,
    /// Also out of one that is there no more
    #[arg(short, long)]
    force: bool,
}

impl Disconnect {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let networks = Networks::open(&context.dirs);
        networks.disconnect(&self.network, &self.container, self.force)?;
        Ok(0)
    }
}
