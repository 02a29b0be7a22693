//! `volume prune`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::pruning::Pruning;
use minidocker::engine::volumes::Volumes;

use crate::Context;
use crate::prune::{Scope, say_deleted, say_freed};

/// Remove volumes that no container has and nobody gave a name
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker volume prune --force --filter label=tier=test",
    mut_arg("filter", |filter| filter.help(
        "Only those that are so: label=KEY[=VALUE], label!=KEY[=VALUE]; all=BOOL is --all"
    ))
)]
pub(crate) struct Prune {
    /// Also those that have names
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Prune {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let (only, kinds) = self.scope.restriction(&["all", "label", "label!"])?;
        let mut all = self.all;
        for kind in kinds {
            all = kind.is_true()?;
            ensure!(
                all || !self.all,
                "conflicting options: cannot specify both --all and --filter all=false"
            );
        }
        let local = if all { "all" } else { "anonymous" };
        let what = format!("remove {local} local volumes not used by at least one container.");
        if self.scope.confirmed(&what)? {
            let pruned = Volumes::open(&context.dirs).prune(&Pruning { all, only })?;
            say_deleted("Volumes", &pruned.names)?;
            say_freed(pruned.freed)?;
        }
        Ok(0)
    }
}
