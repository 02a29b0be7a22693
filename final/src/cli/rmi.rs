//! `rmi` and `image prune`

use anyhow::Result;
use clap::Args;
use images::Removed;
use minidocker::engine::images::Images;
use minidocker::engine::pruning::Pruning;

use crate::prune::{Scope, say_deleted, say_freed};
use crate::{Context, complaint};

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
#[command(
    after_help = "Example: minidocker image prune --force --filter until=240h",
    mut_arg("filter", |filter| filter.help(
        "Only those that are so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE], dangling=BOOL"
    ))
)]
pub(crate) struct Prune {
    /// Also those that have names, unless a container uses them
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    scope: Scope,
}

impl Prune {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let known = ["dangling", "label", "label!", "until"];
        let (only, dangling) = self.scope.restriction(&known)?;
        let mut all = self.all;
        for filter in dangling {
            all = !filter.is_true()?;
        }
        let what = match all {
            true => "remove all images without at least one container associated to them.",
            false => "remove all dangling images.",
        };
        if !self.scope.confirmed(what)? {
            return Ok(0);
        }
        let which = Pruning { all, only };
        Images::change(&context.dirs, |images| {
            let removed = images.prune(&which)?;
            say(&removed)?;
            say_freed(removed.freed)?;
            Ok(0)
        })
    }
}

/// Tells which went.
pub(crate) fn say(removed: &Removed) -> Result<()> {
    let untagged = removed.untagged.iter();
    let untagged = untagged.map(|name| format!("untagged: {name}"));
    let deleted = removed.deleted.iter();
    let deleted = deleted.map(|digest| format!("deleted: {digest}"));
    say_deleted("Images", &untagged.chain(deleted).collect::<Vec<_>>())
}
