//! `rmi` and `image prune`

use anyhow::Result;
use clap::Args;
use images::Removed;
use minidocker::engine::images::{Images, Pruning};

use crate::filters::{Filter, restriction};
use crate::{Context, complaint, prompt};

/// Remove images
///
/// A name is taken away; with its last name, or by its id, the image goes.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker rmi alpine:3.20 0f3c")]
pub(crate) struct Remove {
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Remove an id's names in several repositories, and do not mind an image that is not there
    #[arg(short, long)]
    force: bool,
    /// Accepted: no image has parents that would be removed with it
    #[arg(long)]
    no_prune: bool,
}

impl Remove {
    /// Those that can be removed are.
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        Images::change(&context.dirs, |images| {
            let mut status = 0;
            for name in &self.images {
                let missing = images.find(name).is_err();
                let removed = images
                    .remove(name, self.force)
                    .and_then(|removed| cli::say(&removed.to_string()));
                let failed = complaint(&removed);
                if !(self.force && missing) {
                    status |= failed;
                }
            }
            Ok(status)
        })
    }
}

/// Remove images that nobody uses, and what is left of unfinished downloads
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker image prune --force --filter until=240h")]
pub(crate) struct Prune {
    /// Also those that have names, unless a container uses them
    #[arg(short, long)]
    all: bool,
    /// Only those that are so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let which = self.which()?;
        let warning = match which.all {
            true => {
                "WARNING! This will remove all images without at least one container associated \
                 to them."
            }
            false => "WARNING! This will remove all dangling images.",
        };
        if !self.force && !prompt::confirmed(warning)? {
            return Ok(0);
        }
        Images::change(&context.dirs, |images| {
            let removed = images.prune(&which)?;
            say(&removed)?;
            let freed = cli::size(removed.freed, 4);
            cli::say(&format!("Total reclaimed space: {freed}"))?;
            Ok(0)
        })
    }

    /// What the flags ask for.
    fn which(&self) -> Result<Pruning> {
        let mut which = Pruning {
            all: self.all,
            ..Pruning::default()
        };
        for filter in &self.filter {
            filter.is_one_of(&["dangling", "label", "label!", "until"])?;
        }
        let (dangling, others): (Vec<&Filter>, Vec<&Filter>) = self
            .filter
            .iter()
            .partition(|filter| filter.name == "dangling");
        for filter in dangling {
            which.all = !filter.is_true()?;
        }
        which.only = restriction(others)?;
        Ok(which)
    }
}

/// Tells which went.
pub(crate) fn say(removed: &Removed) -> Result<()> {
    let untagged = removed.untagged.iter();
    let untagged = untagged.map(|name| format!("untagged: {name}"));
    let deleted = removed.deleted.iter();
    let deleted = deleted.map(|digest| format!("deleted: {digest}"));
    let lines: Vec<_> = untagged.chain(deleted).collect();
    match lines.is_empty() {
        true => Ok(()),
        false => cli::say(&format!("Deleted Images:\n{}\n", lines.join("\n"))),
    }
}
