//! `diff`

use std::io::{self, BufWriter, IsTerminal, Write};

use anyhow::{Context as _, Result};
use clap::Args;
use minidocker::engine::containers::Containers;

use crate::Context;

/// Show which files a container has added (A), changed (C) and deleted (D)
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker diff web")]
pub(crate) struct Diff {
    /// A name or an id
    container: String,
}

impl Diff {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let changes = Containers::open(&context.dirs)?.diff(&self.container)?;
        let to_person = io::stdout().is_terminal();
        let mut out = BufWriter::new(io::stdout().lock());
        let write = || -> io::Result<()> {
            for (change, path) in changes {
                write!(out, "{} ", change.letter())?;
                // A path is whatever bytes somebody chose: a terminal takes no orders from it.
                match to_person {
                    true => {
                        let path = String::from_utf8_lossy(&path);
                        out.write_all(cli::printable(&path, path.len()).as_bytes())?;
                    }
                    false => out.write_all(&path)?,
                }
                out.write_all(b"\n")?;
            }
            out.flush()
        };
        write().context("write to standard output")?;
        Ok(0)
    }
}
