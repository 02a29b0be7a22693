//! `history`

use anyhow::Result;
use clap::Args;

use crate::Context;

/// Show how an image was made, the last step first
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker history --no-trunc alpine")]
pub(crate) struct History {
    /// A name or an id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// How to print the steps: table, "table TEMPLATE", json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print sizes and times for people; false prints bytes and times in full
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new(),
        action = clap::ArgAction::Set
    )]
    human: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

impl History {
    pub(crate) fn run(self, _context: &Context) -> Result<u8> {
        Ok(0)
    }
}
