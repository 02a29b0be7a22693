//! What the `prune` commands have in common, and `container prune`.

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use minidocker::engine::containers::Containers;
use minidocker::engine::pruning::{Label, Restriction};

use crate::filters::Filter;
use crate::time::moment;
use crate::{Context, prompt};

/// What is asked of every `prune`.
#[derive(Debug, Args)]
pub(crate) struct Scope {
    /// Only those that are so: until=TIME, label=KEY[=VALUE], label!=KEY[=VALUE]
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// The filters of every `prune`.
pub(crate) const COMMON: [&str; 3] = ["label", "label!", "until"];

impl Scope {
    /// What the filters that are [`COMMON`] ask for, and the others of the known ones.
    ///
    /// # Errors
    /// There is no such filter, or its value makes no sense.
    pub(crate) fn restriction(&self, known: &[&str]) -> Result<(Restriction, Vec<&Filter>)> {
        let (mut only, mut others) = (Restriction::default(), Vec::new());
        let now = Timestamp::now();
        for filter in &self.filter {
            filter.is_one_of(known)?;
            match filter.name.as_str() {
                "label" => only.labels.push(Label::new(&filter.value)),
                "label!" => only.but.push(Label::new(&filter.value)),
                "until" => {
                    let until = moment(&filter.value, now)?;
                    only.until = Some(only.until.map_or(until, |known| known.min(until)));
                }
                _ => others.push(filter),
            }
        }
        Ok((only, others))
    }

    /// Whether to go on: somebody has said so, or says so now.
    ///
    /// # Errors
    /// Nobody can be asked.
    pub(crate) fn confirmed(&self, what: &str) -> Result<bool> {
        Ok(self.force || prompt::confirmed(&format!("WARNING! This will {what}"))?)
    }
}

/// Tells which went.
pub(crate) fn say_deleted(kind: &str, lines: &[String]) -> Result<()> {
    match lines.is_empty() {
        true => Ok(()),
        false => cli::say(&format!("Deleted {kind}:\n{}\n", lines.join("\n"))),
    }
}

/// Tells how much room there is now, in bytes.
pub(crate) fn say_freed(bytes: u64) -> Result<()> {
    cli::say(&format!("Total reclaimed space: {}", cli::size(bytes, 4)))
}

/// Remove all containers that don't run
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker container prune --force --filter until=24h")]
pub(crate) struct PruneContainers {
    #[command(flatten)]
    scope: Scope,
}

impl PruneContainers {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let (only, _) = self.scope.restriction(&COMMON)?;
        if self.scope.confirmed("remove all stopped containers.")? {
            let pruned = Containers::open(&context.dirs)?.prune(&only)?;
            say_deleted("Containers", &pruned.names)?;
            say_freed(pruned.freed)?;
        }
        Ok(0)
    }
}
