//! `rmi` and `image prune`

use anyhow::Result;
use clap::Args;
use minidocker::engine::images::Images;

use crate::filters::Filter;
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
    pub(crate) fn run(self, _context: &Context) -> Result<u8> {
        let warning = match self.all {
            true => {
                "WARNING! This will remove all images without at least one container associated to them."
            }
            false => "WARNING! This will remove all dangling images.",
        };
        if !self.force && !prompt::confirmed(warning)? {
            return Ok(0);
        }
        Ok(0)
    }
}
