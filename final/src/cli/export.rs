//! `export`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::Containers;

use crate::Context;

/// Write a container's files to a tar archive
///
/// What is mounted into it stays out. The same files give the same archive.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker export web | tar -t")]
pub(crate) struct Export {
    /// A name or an id
    container: String,
    /// The file to write, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        containers.export(&self.container, self.output.as_deref())?;
        Ok(0)
    }
}
