//! `container prune`

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use minidocker::engine::containers::{Containers, Pruned, Pruning};

use crate::filters::{Filter, moment};
use crate::{Context, prompt};

/// Remove all containers that don't run
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker container prune --force --filter until=24h")]
pub(crate) struct PruneContainers {
    /// Only those that are so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

impl PruneContainers {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let which = which(&self.filter)?;
        let warning = "WARNING! This will remove all stopped containers.";
        if !self.force && !prompt::confirmed(warning)? {
            return Ok(0);
        }
        let pruned = Containers::open(&context.dirs)?.prune(&which)?;
        say(&pruned)?;
        let freed = cli::size(pruned.freed, 4);
        cli::say(&format!("Total reclaimed space: {freed}"))?;
        Ok(0)
    }
}

/// What filters ask for.
///
/// # Errors
/// There is no such filter, or its value makes no sense.
pub(crate) fn which(filters: &[Filter]) -> Result<Pruning> {
    let mut which = Pruning::default();
    let now = Timestamp::now();
    for filter in filters {
        filter.is_one_of(&["label", "label!", "until"])?;
        match filter.name.as_str() {
            "label" => which.labels.push(filter.value.parse()?),
            "label!" => which.but.push(filter.value.parse()?),
            _ => {
                let until = moment(&filter.value, now)?;
                which.until = Some(which.until.map_or(until, |known| known.min(until)));
            }
        }
    }
    Ok(which)
}

/// Tells which went.
pub(crate) fn say(pruned: &Pruned) -> Result<()> {
    match pruned.ids.is_empty() {
        true => Ok(()),
        false => cli::say(&format!("Deleted Containers:\n{}\n", pruned.ids.join("\n"))),
    }
}
