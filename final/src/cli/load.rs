//! `load`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use images::Platform;
use minidocker::engine::images::Images;

use crate::Context;

/// Take in images from an archive or an OCI layout
///
/// The archive may be what docker, podman, skopeo or this program saved, and compressed with gzip
/// or zstd.
#[derive(Debug, Args)]
#[command(after_help = "Example: docker save alpine | minidocker load")]
pub(crate) struct Load {
    /// The archive or the layout's directory, instead of standard input
    #[arg(short, long, value_name = "FILE|DIR")]
    input: Option<PathBuf>,
    /// For which machines, of an image for several, as linux/arm64
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<Platform>,
    /// Accepted: nothing but the names is printed in any case
    #[arg(short, long)]
    quiet: bool,
}

impl Load {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let input = self.input.as_deref();
        ensure!(
            input.is_some() || !io::stdin().is_terminal(),
            "requested load from stdin, but stdin is empty"
        );
        let input = input.unwrap_or(Path::new("/dev/stdin"));
        Images::change(&context.dirs, |images| {
            for image in images.load(input, self.platform.as_ref())? {
                if image.names().is_empty() {
                    cli::say(&format!("Loaded image ID: {}", image.id()))?;
                }
                for name in image.names() {
                    cli::say(&format!("Loaded image: {name}"))?;
                }
            }
            Ok(0)
        })
    }
}
