//! `network ls`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::networks::Networks;
use minidocker::engine::restriction::Label;
use minidocker::state::Network;
use serde_json::{Value, json};

use crate::Context;
use crate::filters::{Filter, Pattern};
use crate::format::List;
use crate::time::at;

/// List networks
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network ls --filter type=custom -q")]
pub(crate) struct Ls {
    /// Only those that are so: dangling=BOOL, driver=DRIVER, id=ID, label=KEY[=VALUE], name=NAME,
    /// scope=local, type=builtin|custom
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// How to print them: table, "table TEMPLATE", json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    /// Only ids
    #[arg(short, long)]
    quiet: bool,
}

const COLUMNS: &str = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
const HEADERS: [(&str, &str); 8] = [
    ("CreatedAt", "CREATED AT"),
    ("Driver", "DRIVER"),
    ("ID", "NETWORK ID"),
    ("IPv6", "IPV6"),
    ("Internal", "INTERNAL"),
    ("Labels", "LABELS"),
    ("Name", "NAME"),
    ("Scope", "SCOPE"),
];

impl Ls {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let networks = Networks::open(&context.dirs);
        for filter in &self.filter {
            check(filter)?;
        }
        let mut shown = Vec::new();
        for network in networks.list()? {
            if self.admits(&network, &networks)? {
                shown.push(network);
            }
        }
        let list = List {
            columns: COLUMNS,
            headers: &HEADERS,
            rows: shown.iter().map(|it| row(it, self.no_trunc)).collect(),
        };
        let labels = shown.iter().map(|it| json!({ "Label": it.labels }));
        let labels: Vec<Value> = labels.collect();
        let lines = match self.format.as_deref().unwrap_or_default() {
            "" | "table" if self.quiet => list.format(Some("{{.ID}}"))?,
            _ => list.format_with(self.format.as_deref(), &labels)?,
        };
        lines.iter().try_for_each(|line| cli::say(line))?;
        Ok(0)
    }

    /// Whether the filters let it through: of one name, one has to hold; of labels all.
    fn admits(&self, network: &Network, networks: &Networks) -> Result<bool> {
        for filter in &self.filter {
            let is_label = filter.name == "label";
            let same = self.filter.iter().filter(|other| match is_label {
                true => *other == filter,
                false => other.name == filter.name,
            });
            let mut holds = false;
            for one in same {
                holds = holds || is_so(network, one, networks)?;
            }
            if !holds {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn check(filter: &Filter) -> Result<()> {
    filter.is_one_of(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let value = filter.value.as_str();
    ensure!(
        filter.name != "type" || ["builtin", "custom"].contains(&value),
        "invalid filter 'type={value}'"
    );
    if filter.name == "dangling" {
        filter.is_true()?;
    }
    Ok(())
}

fn is_so(network: &Network, filter: &Filter, networks: &Networks) -> Result<bool> {
    let value = filter.value.as_str();
    Ok(match filter.name.as_str() {
        "driver" => network.driver() == value,
        "id" => Pattern::new(value).is_in(&network.id),
        "label" => value.parse::<Label>()?.is_among(&network.labels),
        "name" => Pattern::new(value).is_in(&network.name),
        "scope" => value == "local",
        "type" => network.is_predefined() == (value == "builtin"),
        _ => {
            let dangles = !network.is_predefined() && networks.members(network)?.is_empty();
            dangles == filter.is_true()?
        }
    })
}

fn row(network: &Network, no_trunc: bool) -> Value {
    let labels = network.labels.iter();
    let labels: Vec<String> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    json!({
        "CreatedAt": at(network.created),
        "Driver": network.driver(),
        "ID": if no_trunc { &network.id } else { network.short_id() },
        "IPv6": network.subnet6.is_some().to_string(),
        "Internal": network.internal.to_string(),
        "Labels": labels.join(","),
        "Name": network.name,
        "Scope": "local",
    })
}
