//! `import`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use images::{ImageName, Platform};
use minidocker::engine::images::{Images, Imported};

use crate::Context;

/// Make an image of one layer from a root file system in a tar archive
#[derive(Debug, Args)]
#[command(
    after_help = "Example: tar -C rootfs -c . | minidocker import -c 'CMD [\"sh\"]' - mine:1"
)]
pub(crate) struct Import {
    /// The archive, which may be compressed with gzip or zstd; - is standard input
    #[arg(value_name = "FILE|-")]
    source: PathBuf,
    /// What to call the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<ImageName>,
    /// How a container of it is to run: an instruction as in a Dockerfile
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What its history says
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// For which machines it is, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
}

impl Import {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let described = Imported {
            changes: self.change,
            message: self.message,
            platform: self.platform,
        };
        Images::change(&context.dirs, |images| {
            let image = images.import(&self.source, self.name.as_ref(), &described)?;
            cli::say(&image.id().to_string())?;
            Ok(0)
        })
    }
}
