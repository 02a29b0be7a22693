//! `top`: the processes of a container.

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::Containers;

use crate::Context;

/// Show the processes of a container
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker top web -o pid,rss,comm")]
pub(crate) struct Top {
    /// A name or an id
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Options for ps; without any it is as with -ef
    #[arg(
        value_name = "PS OPTION",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    options: Vec<String>,
}

/// Docker's columns are at least that wide.
const LEAST: usize = 20;

impl Top {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let found = Containers::open(&context.dirs)?.top(&self.container, &self.options)?;
        let rows = std::iter::once(&found.titles).chain(&found.rows);
        let lines: Vec<String> = rows
            .map(|row| {
                let cells: Vec<String> = row
                    .iter()
                    .map(|cell| cli::printable(cell, usize::MAX))
                    .collect();
                cells.join("\t")
            })
            .collect();
        cli::say(&cli::columns(&lines.join("\n"), LEAST))?;
        Ok(0)
    }
}
