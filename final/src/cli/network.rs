//! `network …`

use anyhow::Result;
use clap::Subcommand;

use crate::Context;

/// Make and remove networks, and put containers into them
#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// Make all anew that a firewall or somebody else took away
    Reload,
}

impl Network {
    pub(crate) fn run(self, _context: &Context) -> Result<u8> {
        anyhow::bail!("not yet")
    }
}
