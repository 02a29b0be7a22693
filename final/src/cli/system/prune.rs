//! `system prune`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::containers::Containers;
use minidocker::engine::images::{self, Images};
use minidocker::engine::networks::Networks;
use minidocker::engine::volumes::{self, Volumes};

use crate::filters::{Filter, restriction};
use crate::{Context, network, prompt, prune, remove, volume};

/// Remove what nobody uses: stopped containers, networks and images without containers, unfinished
/// downloads
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker system prune --all --volumes --force")]
pub(crate) struct Prune {
    /// Also images that have names, unless a container uses them
    #[arg(short, long)]
    all: bool,
    /// Only what is so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Also the volumes that were made for containers that are gone
    #[arg(long)]
    volumes: bool,
}

impl Prune {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let only = restriction(&self.filter)?;
        ensure!(
            !(self.volumes && only.until.is_some()),
            "the \"until\" filter is not supported with \"--volumes\""
        );
        if !self.force && !prompt::confirmed(&self.warning())? {
            return Ok(0);
        }
        let containers = Containers::open(&context.dirs)?;
        let pruned = containers.prune(&only)?;
        prune::say(&pruned)?;
        let mut freed = pruned.freed;
        network::say(&Networks::open(&context.dirs).prune(&only)?)?;
        if self.volumes {
            let which = volumes::Pruning {
                all: false,
                only: only.clone(),
            };
            let pruned = Volumes::open(&context.dirs).prune(&which)?;
            volume::say(&pruned)?;
            freed += pruned.freed;
        }
        let unused = images::Pruning {
            all: self.all,
            only,
        };
        Images::change(&context.dirs, |images| {
            let removed = images.prune(&unused)?;
            remove::say(&removed)?;
            let all = cli::size(freed + removed.freed, 4);
            cli::say(&format!("Total reclaimed space: {all}"))?;
            Ok(0)
        })
    }

    fn warning(&self) -> String {
        let mut parts = vec!["all stopped containers"];
        parts.push("all networks not used by at least one container");
        if self.volumes {
            parts.push("all anonymous volumes not used by at least one container");
        }
        parts.push(match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        });
        let lines: Vec<String> = parts.iter().map(|part| format!("  - {part}")).collect();
        format!("WARNING! This will remove:\n{}\n", lines.join("\n"))
    }
}
