//! `pause` and `unpause`

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::Containers;

use crate::{Context, each};

/// Stop all processes of containers where they are
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker pause web")]
pub(crate) struct Pause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Pause {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        each(&self.containers, |name| {
            containers.pause(name)?;
            cli::say(name)
        })
    }
}

/// Let all processes of paused containers go on
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker unpause web")]
pub(crate) struct Unpause {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Unpause {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        each(&self.containers, |name| {
            containers.unpause(name)?;
            cli::say(name)
        })
    }
}
