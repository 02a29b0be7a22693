//! `load`

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use images::Platform;
use minidocker::engine::images::Images;

use crate::Context;
use crate::progress::{Manner, Progress};

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
    /// No bars at the terminal, only the names
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
            let manner = Manner::of_output(self.quiet, context.explain);
            let progress = Progress::start(manner, "");
            let note = |blob: &_, stage| progress.note(blob, stage);
            let loaded = images.load(input, self.platform.as_ref(), &note)?;
            progress.finish()?;
            for image in loaded {
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
