//! Where the image of a new container comes from.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use images::{Image, ImageName, Platform};
use minidocker::engine::images::Images;

use crate::{Context, pull, tell};

/// Where the image comes from.
#[derive(Debug, Args)]
pub(super) struct Origin {
    /// When to fetch the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: When,
    /// Say nothing while fetching it
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    Always,
    Missing,
    Never,
}

/// What a fetched image, or none, leads to.
pub(super) enum Found {
    Image(Box<Image>),
    /// Somebody ended the fetching, with this status.
    Ended(u8),
}

impl Origin {
    /// The image, fetched where it is not at hand or `--pull` says so.
    pub(super) fn find(
        &self,
        context: &Context,
        named: &str,
        platform: Option<&Platform>,
    ) -> Result<Found> {
        let find = || {
            let image = Images::open(&context.dirs)?.find(named)?;
            let fits = platform.is_none_or(|wanted| is_for(&image.platform(), wanted));
            ensure!(
                fits,
                "image with reference {named} was found but its platform ({}) does not match the \
                 specified platform",
                image.platform()
            );
            Ok(image)
        };
        let found = match (find(), self.pull) {
            (Ok(image), When::Missing | When::Never) => return Ok(with_warning(image, platform)),
            (Err(error), When::Never) => return Err(error),
            (found, _) => found,
        };
        let name: ImageName = named.parse()?;
        if found.is_err() && self.pull == When::Missing && !self.quiet {
            tell(&format!("Unable to find image '{name}' locally"));
        }
        match pull::for_another(context, &name, platform, self.quiet)? {
            0 => Ok(with_warning(find()?, platform)),
            status => Ok(Found::Ended(status)),
        }
    }
}

fn with_warning(image: Image, wanted: Option<&Platform>) -> Found {
    let (its, here) = (image.platform(), Platform::here());
    if wanted.is_none() && its.architecture != here.architecture {
        warn(&format!(
            "The requested image's platform ({its}) does not match the detected host platform \
             ({here}) and no specific platform was requested"
        ));
    }
    Found::Image(Box::new(image))
}

/// Many an image leaves its variant unsaid.
fn is_for(its: &Platform, wanted: &Platform) -> bool {
    let unsaid = wanted.variant.is_none() || its.variant.is_none();
    its.os == wanted.os
        && its.architecture == wanted.architecture
        && (unsaid || its.variant == wanted.variant)
}

/// Tells what works otherwise than one might think.
pub(super) fn warn(what: &str) {
    tell(&format!("WARNING: {what}"));
}
