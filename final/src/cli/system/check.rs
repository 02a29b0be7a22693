//! `system check`

use anyhow::Result;
use clap::Args;
use images::Finding;
use minidocker::engine::containers::Containers;
use minidocker::engine::images::{Images, Mending};
use minidocker::engine::volumes::Volumes;

use crate::{Context, complaint};

/// See whether all containers, images and volumes are what they were, and mend what is not
///
/// Every file of the images is read. What is damaged and can neither be made anew nor fetched from
/// the registry that it came from is told, and the status is 1.
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

impl Check {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let mending = match self.dry_run {
            true => Mending::None,
            false => Mending::All {
                insecure: self.insecure,
            },
        };
        let tell = |finding: &Finding| {
            if let Err(error) = cli::say(&finding.what) {
                // What nobody reads need not be found out.
                std::process::exit(complaint::<()>(&Err(error)).into());
            }
        };
        // A container may need an image that is mended by then.
        let images = Images::check(&context.dirs, mending, &tell)?;
        let containers = Containers::open(&context.dirs)?.check(!self.dry_run, &tell)?;
        let volumes = Volumes::open(&context.dirs).check(!self.dry_run, &tell)?;
        Ok(images | containers | volumes)
    }
}
