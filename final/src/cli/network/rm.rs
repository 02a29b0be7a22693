//! `network rm`

use anyhow::Result;
use clap::Args;
use minidocker::engine::networks::Networks;
use minidocker::state::Missing;

use crate::{Context, complaint};

/// Remove networks that no container is in
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network rm front back")]
pub(crate) struct Rm {
    /// Do not mind one that is not there
    #[arg(short, long)]
    force: bool,
    /// Names or ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let networks = Networks::open(&context.dirs);
        let mut status = 0;
        for name in &self.networks {
            match networks.remove(name) {
                Err(error) if self.force && error.is::<Missing>() => {}
                removed => status |= complaint(&removed.and_then(|()| cli::say(name))),
            }
        }
        Ok(status)
    }
}
