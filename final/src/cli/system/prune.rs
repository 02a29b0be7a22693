//! `system prune`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::containers::Containers;
use minidocker::engine::images::Images;
use minidocker::engine::networks::Networks;
use minidocker::engine::pruning::Pruning;
use minidocker::engine::volumes::Volumes;

use crate::prune::{COMMON, Scope, say_deleted, say_freed};
use crate::{Context, rmi};

/// Remove what nobody uses: stopped containers, networks and images without containers, unfinished
/// downloads
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker system prune --all --volumes --force")]
pub(crate) struct Prune {
    /// Also images that have names, unless a container uses them
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    scope: Scope,
    /// Also the volumes that were made for containers that are gone
    #[arg(long)]
    volumes: bool,
}

impl Prune {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let (only, _) = self.scope.restriction(&COMMON)?;
        ensure!(
            !(self.volumes && only.until.is_some()),
            "the \"until\" filter is not supported with \"--volumes\""
        );
        if !self.scope.confirmed(&self.what())? {
            return Ok(0);
        }
        let pruned = Containers::open(&context.dirs)?.prune(&only)?;
        say_deleted("Containers", &pruned.names)?;
        let mut freed = pruned.freed;
        let networks = Networks::open(&context.dirs).prune(&only)?;
        say_deleted("Networks", &networks)?;
        let mut which = Pruning { all: false, only };
        if self.volumes {
            let pruned = Volumes::open(&context.dirs).prune(&which)?;
            say_deleted("Volumes", &pruned.names)?;
            freed += pruned.freed;
        }
        which.all = self.all;
        Images::change(&context.dirs, |images| {
            let removed = images.prune(&which)?;
            rmi::say(&removed)?;
            say_freed(freed + removed.freed)?;
            Ok(0)
        })
    }

    fn what(&self) -> String {
        let mut parts = vec!["all stopped containers"];
        parts.push("all networks not used by at least one container");
        if self.volumes {
            parts.push("all anonymous volumes not used by at least one container");
        }
        parts.push(match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        });
        let lines = parts.iter().map(|part| format!("\n  - {part}"));
        format!("remove:{}\n", lines.collect::<String>())
    }
}
