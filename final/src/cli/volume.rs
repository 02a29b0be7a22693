//! `volume …`

use anyhow::Result;
use clap::Subcommand;

use crate::Context;

/// Make and remove volumes
#[derive(Debug, Subcommand)]
pub(crate) enum Volume {
    /// List them
    Ls,
}

impl Volume {
    pub(crate) fn run(self, _context: &Context) -> Result<u8> {
        anyhow::bail!("not yet")
    }
}
