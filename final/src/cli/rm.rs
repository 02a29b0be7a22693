//! `rm` and `rename`

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::{Containers, Removal};

use crate::{Context, complaint};

/// Remove containers, and all that they have written
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker rm -f web db")]
pub(crate) struct Rm {
    /// Kill those that run, and do not mind one that is not there
    #[arg(short, long)]
    force: bool,
    /// Remove their anonymous volumes, too
    #[arg(short, long)]
    volumes: bool,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Rm {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        containers.sweep();
        let how = Removal {
            force: self.force,
            volumes: self.volumes,
        };
        let mut status = 0;
        for name in &self.containers {
            let removed = containers.remove(name, how).and_then(|()| cli::say(name));
            let failed = complaint(&removed);
            // Whoever removes by force does not mind who did it.
            if failed != 0 && !(self.force && containers.find(name).is_err()) {
                status |= failed;
            }
        }
        Ok(status)
    }
}

/// Call a container otherwise
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker rename silly_hopper web")]
pub(crate) struct Rename {
    /// Its name or id
    container: String,
    /// What to call it
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

impl Rename {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        Containers::open(&context.dirs)?.rename(&self.container, &self.name)?;
        Ok(0)
    }
}
