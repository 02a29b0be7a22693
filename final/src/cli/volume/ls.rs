//! `volume ls`

use anyhow::Result;
use clap::Args;
use minidocker::engine::pruning::Label;
use minidocker::engine::volumes::Volumes;
use minidocker::state::LocalVolume;
use serde_json::{Value, json};

use crate::Context;
use crate::filters::{Filter, Pattern, admit};
use crate::format::{Form, List, joined};

/// List volumes
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker volume ls --filter dangling=true",
    mut_arg("quiet", |quiet| quiet.help("Only names"))
)]
pub(crate) struct Ls {
    /// Only those that are so: dangling=BOOL, driver=NAME, label=KEY[=VALUE], name=PATTERN
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    #[command(flatten)]
    form: Form,
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
        for filter in &self.filter {
            filter.is_one_of(&["dangling", "driver", "label", "name"])?;
        }
        let mut shown = Vec::new();
        for (volume, containers) in volumes.counted()? {
            if admit(&self.filter, |filter| is_so(&volume, containers, filter))? {
                shown.push(volume);
            }
        }
        let list = List {
            columns: COLUMNS,
            headers: &HEADERS,
            rows: shown.iter().map(|it| row(&volumes, it)).collect(),
            labels: shown.iter().map(|it| &it.labels).collect(),
        };
        self.form.say(&list, "{{.Name}}")?;
        Ok(0)
    }
}

fn row(volumes: &Volumes, it: &LocalVolume) -> Value {
    json!({
        "Availability": "N/A",
        "Driver": "local",
        "Group": "N/A",
        "Labels": joined(&it.labels, ","),
        "Links": "N/A",
        "Mountpoint": volumes.mountpoint(it),
        "Name": it.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    })
}

fn is_so(volume: &LocalVolume, containers: usize, filter: &Filter) -> Result<bool> {
    let value = filter.value.as_str();
    Ok(match filter.name.as_str() {
        "dangling" => filter.is_true()? == (containers == 0),
        "driver" => value == "local",
        "label" => Label::new(value).is_among(&volume.labels),
        _ => Pattern::new(value).is_in(&volume.name),
    })
}
