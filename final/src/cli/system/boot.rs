//! `system start` and `system stop`: before and after a reboot.

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::Containers;
use minidocker::state::Container;

use crate::{Context, complaint};

/// Start the containers that --restart wants to run, after a reboot
///
/// Those with --restart always, and those with unless-stopped that nobody stopped.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker system start")]
pub(crate) struct Start {}

/// Stop all containers, before a reboot
///
/// `minidocker system start` starts them again as if they had been running all along.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker system stop")]
pub(crate) struct Stop {}

impl Start {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        say(Containers::open(&context.dirs)?.resume()?)
    }
}

impl Stop {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        say(Containers::open(&context.dirs)?.rest()?)
    }
}

/// The names of those with which it worked, and why it did not with others.
fn say(done: Vec<(Container, Result<()>)>) -> Result<u8> {
    let mut status = 0;
    for (container, done) in done {
        let named = done.map_err(|error| error.context(format!("container {}", container.name)));
        match named {
            Ok(()) => cli::say(&container.name)?,
            failed => status |= complaint(&failed),
        }
    }
    Ok(status)
}
