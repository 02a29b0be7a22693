//! `tag`

use anyhow::{Context as _, Result};
use clap::Args;
use images::ImageName;
use minidocker::engine::images::Images;

use crate::Context;

/// Give an image one more name
///
/// An image that had the name loses it.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker tag alpine localhost:5000/alpine:mine")]
pub(crate) struct Tag {
    /// A name or an id
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    /// What to call it, too
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Tag {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let name: ImageName = self.target.parse().context("Error parsing reference")?;
        Images::open(&context.dirs)?.tag(&self.source, &name)?;
        Ok(0)
    }
}
