//! `save`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use minidocker::engine::images::{Format, Images};

use crate::Context;

/// Write images to an archive, which other engines can load
///
/// The same image gives the same bytes, whenever and wherever it is saved.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker save alpine debian:12 | gzip >images.tar.gz")]
pub(crate) struct Save {
    /// Names or ids; a name without a tag means all its tags
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The file to write, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// docker-archive, which is an OCI layout, too, or oci, which is nothing else
    #[arg(long, value_name = "FORMAT", default_value = "docker-archive")]
    format: Format,
}

impl Save {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let images = Images::open(&context.dirs)?;
        images.save(&self.images, self.format, self.output.as_deref())?;
        Ok(0)
    }
}
