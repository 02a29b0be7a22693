//! `container prune`

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::{Containers, Pruned};

use crate::filters::{Filter, restriction};
use crate::{Context, prompt};

/// Remove all containers that don't run
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker container prune --force --filter until=24h")]
pub(crate) struct PruneContainers {
    /// Only those that are so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl PruneContainers {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let only = restriction(&self.filter)?;
        let warning = "WARNING! This will remove all stopped containers.";
        if !self.force && !prompt::confirmed(warning)? {
            return Ok(0);
        }
        let pruned = Containers::open(&context.dirs)?.prune(&only)?;
        say(&pruned)?;
        let freed = cli::size(pruned.freed, 4);
        cli::say(&format!("Total reclaimed space: {freed}"))?;
        Ok(0)
    }
}

/// Tells which went.
pub(crate) fn say(pruned: &Pruned) -> Result<()> {
    match pruned.ids.is_empty() {
        true => Ok(()),
        false => cli::say(&format!("Deleted Containers:\n{}\n", pruned.ids.join("\n"))),
    }
}
