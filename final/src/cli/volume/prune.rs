//! `volume prune`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::volumes::{Pruning, Volumes};

use super::say;
use crate::filters::{Filter, restriction};
use crate::{Context, prompt};

/// Remove volumes that no container has and nobody gave a name
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker volume prune --force --filter label=tier=test")]
pub(crate) struct Prune {
    /// Also those that have names
    #[arg(short, long)]
    all: bool,
    /// Only those that are so: label=KEY[=VALUE], label!=KEY[=VALUE]; all=BOOL is --all
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let (kinds, others): (Vec<_>, Vec<_>) =
            self.filter.iter().partition(|filter| filter.name == "all");
        let mut which = Pruning {
            all: self.all,
            only: restriction(others)?,
        };
        ensure!(
            which.only.until.is_none(),
            "invalid filter 'until'; there are: all, label, label!"
        );
        for kind in kinds {
            let all = kind.is_true()?;
            ensure!(
                all || !self.all,
                "conflicting options: cannot specify both --all and --filter all=false"
            );
            which.all = all;
        }
        let warning = match which.all {
            true => {
                "WARNING! This will remove all local volumes not used by at least one container."
            }
            false => {
                "WARNING! This will remove anonymous local volumes not used by at least one container."
            }
        };
        if !self.force && !prompt::confirmed(warning)? {
            return Ok(0);
        }
        let pruned = Volumes::open(&context.dirs).prune(&which)?;
        say(&pruned)?;
        let freed = cli::size(pruned.freed, 4);
        cli::say(&format!("Total reclaimed space: {freed}"))?;
        Ok(0)
    }
}
