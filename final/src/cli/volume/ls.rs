//! `volume ls`

use anyhow::Result;
use clap::Args;
use minidocker::engine::restriction::Label;
use minidocker::engine::volumes::Volumes;
use minidocker::state::LocalVolume;
use serde_json::{Value, json};

use crate::Context;
use crate::filters::{Filter, Pattern};
use crate::format::List;

/// List volumes
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker volume ls --filter dangling=true")]
pub(crate) struct Ls {
    /// Only those that are so: dangling=BOOL, driver=NAME, label=KEY[=VALUE], name=PATTERN
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// How to print them: table, "table TEMPLATE", json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only names
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: &str = "{{.Driver}}\t{{.Name}}";
const HEADERS: [(&str, &str); 10] = [
    ("Availability", "AVAILABILITY"),
    ("Driver", "DRIVER"),
    ("Group", "GROUP"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Size", "SIZE"),
    ("Status", "STATUS"),
];

impl Ls {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let volumes = Volumes::open(&context.dirs);
        let selection = Selection::new(&self.filter)?;
        let mut found = volumes.counted()?;
        found.retain(|(volume, containers)| selection.admits(volume, *containers));
        let list = List {
            columns: COLUMNS,
            headers: &HEADERS,
            rows: found.iter().map(|(it, _)| row(&volumes, it)).collect(),
        };
        let labels = found.iter().map(|(it, _)| json!({ "Label": it.labels }));
        let labels: Vec<Value> = labels.collect();
        let lines = match self.format.as_deref().unwrap_or_default() {
            "" | "table" if self.quiet => list.format(Some("{{.Name}}"))?,
            format => list.format_with(Some(format), &labels)?,
        };
        lines.iter().try_for_each(|line| cli::say(line))?;
        Ok(0)
    }
}

fn row(volumes: &Volumes, it: &LocalVolume) -> Value {
    let labels = it.labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": labels.join(","),
        "Links": "N/A",
        "Mountpoint": volumes.mountpoint(it),
        "Name": it.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    })
}

/// The volumes that filters let through. Of one name, one has to hold; of labels all.
#[derive(Default)]
struct Selection {
    dangling: Option<bool>,
    drivers: Vec<String>,
    labels: Vec<Label>,
    names: Vec<Pattern>,
}

impl Selection {
    fn new(filters: &[Filter]) -> Result<Selection> {
        let mut selection = Selection::default();
        for filter in filters {
            filter.is_one_of(&["dangling", "driver", "label", "name"])?;
            match filter.name.as_str() {
                "dangling" => selection.dangling = Some(filter.is_true()?),
                "driver" => selection.drivers.push(filter.value.clone()),
                "label" => selection.labels.push(filter.value.parse()?),
                _ => selection.names.push(Pattern::new(&filter.value)),
            }
        }
        Ok(selection)
    }

    fn admits(&self, volume: &LocalVolume, containers: usize) -> bool {
        let or_any = |asked: bool, holds: bool| !asked || holds;
        self.dangling
            .is_none_or(|dangles| dangles == (containers == 0))
            && or_any(
                !self.drivers.is_empty(),
                self.drivers.iter().any(|driver| driver == "local"),
            )
            && self
                .labels
                .iter()
                .all(|label| label.is_among(&volume.labels))
            && or_any(
                !self.names.is_empty(),
                self.names.iter().any(|name| name.is_in(&volume.name)),
            )
    }
}
