//! `network ls`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::networks::Networks;
use minidocker::engine::pruning::Label;
use minidocker::state::Network;
use serde_json::{Value, json};

use crate::Context;
use crate::filters::{Filter, Pattern, admit};
use crate::format::{Form, List, joined};
use crate::time::at;

/// List networks
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network ls --filter type=custom -q")]
pub(crate) struct Ls {
    /// Only those that are so: dangling=BOOL, driver=DRIVER, id=ID, label=KEY[=VALUE], name=NAME,
    /// scope=local, type=builtin|custom
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// Do not shorten ids
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    form: Form,
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
            if admit(&self.filter, |filter| is_so(&network, filter, &networks))? {
                shown.push(network);
            }
        }
        let list = List {
            columns: COLUMNS,
            headers: &HEADERS,
            rows: shown.iter().map(|it| row(it, self.no_trunc)).collect(),
            labels: shown.iter().map(|it| &it.labels).collect(),
        };
        self.form.say(&list, "{{.ID}}")?;
        Ok(0)
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
        "label" => Label::new(value).is_among(&network.labels),
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
    json!({
        "CreatedAt": at(network.created),
        "Driver": network.driver(),
        "ID": if no_trunc { &network.id } else { network.short_id() },
        "IPv6": network.subnet6.is_some().to_string(),
        "Internal": network.internal.to_string(),
        "Labels": joined(&network.labels, ","),
        "Name": network.name,
        "Scope": "local",
    })
}
