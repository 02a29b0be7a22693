//! `network prune`

use anyhow::Result;
use clap::Args;
use minidocker::engine::networks::Networks;

use crate::filters::{Filter, restriction};
use crate::{Context, prompt};

/// Remove all networks that no container is in
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network prune --force --filter until=24h")]
pub(crate) struct Prune {
    /// Only those that are so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let only = restriction(&self.filter)?;
        let warning =
            "WARNING! This will remove all custom networks not used by at least one container.";
        if !self.force && !prompt::confirmed(warning)? {
            return Ok(0);
        }
        say(&Networks::open(&context.dirs).prune(&only)?)?;
        Ok(0)
    }
}

/// Tells which went.
pub(crate) fn say(names: &[String]) -> Result<()> {
    match names.is_empty() {
        true => Ok(()),
        false => cli::say(&format!("Deleted Networks:\n{}\n", names.join("\n"))),
    }
}
