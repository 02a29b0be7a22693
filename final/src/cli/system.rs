//! `system check`

use anyhow::Result;
use clap::{Args, Subcommand};
use images::Finding;
use minidocker::engine::images::{Images, Mending};

use crate::events::Events;
use crate::{Context, complaint};

/// Look after what minidocker keeps on this machine
#[derive(Debug, Subcommand)]
pub(crate) enum System {
    Check(Check),
    Events(Events),
}

/// See whether all images are what they were, and mend what is not
///
/// Every file is read. What is damaged and can neither be made anew nor fetched from the registry
/// that it came from is told, and the status is 1.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker system check --dry-run")]
pub(crate) struct Check {
    /// Only tell, and mend nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Fetch without HTTPS, or with certificates that nobody vouches for
    #[arg(long)]
    insecure: bool,
}

impl System {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        match self {
            System::Check(check) => check.run(context),
            System::Events(events) => events.run(context),
        }
    }
}

impl Check {
    fn run(self, context: &Context) -> Result<u8> {
        let mending = match self.dry_run {
            true => Mending::None,
            false => Mending::All {
                insecure: self.insecure,
            },
        };
        Images::check(&context.dirs, mending, &|finding: &Finding| {
            if let Err(error) = cli::say(&finding.what) {
                // What nobody reads need not be found out.
                std::process::exit(complaint::<()>(&Err(error)).into());
            }
        })
    }
}
