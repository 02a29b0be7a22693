//! `network reload`

use anyhow::Result;
use clap::Args;
use minidocker::engine::networks::Networks;

use crate::Context;

/// Make anew what a firewall, or somebody else, took away from containers' networks
///
/// Without a name, for all that run.
#[derive(Debug, Args)]
#[command(after_help = "Example: systemctl restart nftables; minidocker network reload")]
pub(crate) struct Reload {
    /// Names or ids
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// All that run
    #[arg(short, long, conflicts_with = "containers")]
    all: bool,
}

impl Reload {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let reloaded = Networks::open(&context.dirs).reload(&self.containers)?;
        reloaded.iter().try_for_each(|id| cli::say(id))?;
        Ok(0)
    }
}
