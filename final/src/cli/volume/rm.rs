//! `volume rm`

use anyhow::Result;
use clap::Args;
use minidocker::engine::volumes::Volumes;
use minidocker::state::Missing;

use crate::{Context, complaint};

/// Remove volumes that no container has, and all that is in them
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker volume rm data")]
pub(crate) struct Rm {
    /// Do not mind one that is not there
    #[arg(short, long)]
    force: bool,
    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl Rm {
    /// Those that can be removed are.
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let volumes = Volumes::open(&context.dirs);
        let mut status = 0;
        for name in &self.volumes {
            let removed = match volumes.remove(name) {
                Err(error) if self.force && error.is::<Missing>() => Ok(()),
                removed => removed,
            };
            status |= complaint(&removed.and_then(|()| cli::say(name)));
        }
        Ok(status)
    }
}
