//! `ps`: the list of containers.

pub(crate) mod ports;
mod selection;
pub(crate) mod status;

use std::collections::HashMap;

use anyhow::Result;
use clap::Args;
use images::ImageName;
use jiff::Timestamp;
use minidocker::engine::containers::{Catalogue, Containers};
use minidocker::engine::networks::Networks;
use minidocker::state::{Container, Status};
use serde_json::{Value, json};

use crate::Context;
use crate::filters::Filter;
use crate::format::{Form, List, joined};
use crate::time::{ago, at};

use selection::Selection;

/// List containers, the newest first
#[derive(Debug, Args)]
#[command(
    after_help = "Example: minidocker ps -a --filter status=exited --format '{{.Names}}: {{.Status}}'"
)]
pub(crate) struct Ps {
    /// Also those that don't run
    #[arg(short, long)]
    all: bool,
    /// Only those that are so: ancestor=IMAGE, before=CONTAINER, exited=CODE, expose=PORT, id=ID,
    /// label=KEY[=VALUE], name=NAME, network=NAME, publish=PORT, since=CONTAINER, status=STATUS,
    /// volume=NAME
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,
    /// So many that were created last, whether they run or not
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER",
        default_value_t = -1,
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    last: i64,
    /// The one that was created last, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    no_trunc: bool,
    #[command(flatten)]
    form: Form,
    /// Show how much they wrote
    #[arg(short, long)]
    size: bool,
}

const USUAL: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const WITH_SIZE: &str = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t{{.Size}}";
const HEADERS: [(&str, &str); 14] = [
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Names", "NAMES"),
    ("Networks", "NETWORKS"),
    ("Ports", "PORTS"),
    ("RunningFor", "CREATED"),
    ("Size", "SIZE"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

/// A command is no longer, unless nothing is to be shortened; and a mount's name.
const LONGEST_COMMAND: usize = 20;
const LONGEST_MOUNT: usize = 15;

impl Ps {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        let shown = self.chosen(&containers, &Networks::open(&context.dirs))?;
        let rows = Rows {
            // Without containers no image need be read.
            images: match shown.is_empty() || self.form.quiet {
                true => None,
                false => containers.images_if_readable(),
            },
            sizes: match self.size || self.form.asks_for(".Size") {
                true => containers.sizes(&shown)?,
                false => HashMap::new(),
            },
            no_trunc: self.no_trunc,
            now: Timestamp::now(),
        };
        let list = List {
            columns: if self.size { WITH_SIZE } else { USUAL },
            headers: &HEADERS,
            rows: shown.iter().map(|container| rows.row(container)).collect(),
            labels: shown.iter().map(|it| &it.config.labels).collect(),
        };
        self.form.say(&list, "{{.ID}}")?;
        Ok(0)
    }

    /// Those that the flags ask for.
    fn chosen(&self, containers: &Containers, networks: &Networks) -> Result<Vec<Container>> {
        let selection = Selection::new(&self.filter, containers, networks)?;
        let last = match self.last {
            -1 if self.latest => 1,
            last => last,
        };
        let all = self.all || last > 0 || selection.means_all();
        let most = usize::try_from(last).ok().filter(|most| *most > 0);
        let listed = containers.list()?.into_iter();
        let meant = listed.filter(|it| {
            let status = it.life.status;
            (all || (status.needs_shim() && status != Status::Dead)) && selection.admits(it)
        });
        Ok(meant.take(most.unwrap_or(usize::MAX)).collect())
    }
}

/// How containers become rows.
struct Rows {
    images: Option<Catalogue>,
    sizes: HashMap<String, u64>,
    no_trunc: bool,
    now: Timestamp,
}

impl Rows {
    fn row(&self, container: &Container) -> Value {
        let id = match self.no_trunc {
            true => &container.id,
            false => container.short_id(),
        };
        json!({
            "Command": command(container, self.no_trunc),
            "CreatedAt": at(container.created),
            "ID": id,
            "Image": self.image(container),
            "Labels": joined(&container.config.labels, ","),
            "LocalVolumes": container.mounts.iter().filter(|it| it.driver == "local").count().to_string(),
            "Mounts": self.mounts(container),
            "Names": container.name,
            "Networks": container.host.network_names().join(","),
            "Ports": ports::shown(&ports::of(container)),
            "RunningFor": ago(container.created, self.now),
            "Size": self.size(container),
            "State": container.life.status.to_string(),
            "Status": status::shown(&container.life, self.now),
        })
    }

    fn image(&self, container: &Container) -> String {
        let name = match &self.images {
            Some(images) => images.name_for(container),
            None => container.config.image.clone(),
        };
        if self.no_trunc {
            return name;
        }
        if name == container.image {
            let hex = name.strip_prefix("sha256:").unwrap_or(&name);
            return hex.chars().take(12).collect();
        }
        // Of a name with a tag and a digest, the tag says enough.
        let parsed = name.parse::<ImageName>().ok();
        let tagged = parsed.filter(|name| name.tag().is_some() && name.digest().is_some());
        tagged.map_or(name, |name| {
            let tag = name.tag().unwrap_or_default();
            format!("{}:{tag}", name.repository())
        })
    }

    fn mounts(&self, container: &Container) -> String {
        let names = container
            .mounts
            .iter()
            .map(|mount| match mount.name.as_str() {
                "" => mount.source.as_str(),
                name => name,
            });
        let names: Vec<String> = names
            .filter(|name| !name.is_empty())
            .map(|name| match self.no_trunc {
                true => name.to_owned(),
                false => shortened(name, LONGEST_MOUNT),
            })
            .collect();
        names.join(",")
    }

    /// `2B (virtual 7.83MB)`
    fn size(&self, container: &Container) -> String {
        let Some(written) = self.sizes.get(&container.id).copied() else {
            return "0B".to_owned();
        };
        let image = self.images.as_ref().and_then(|images| images.of(container));
        let virtually = image.map_or(0, images::Image::size).saturating_add(written);
        let (written, virtually) = (cli::size(written, 3), cli::size(virtually, 3));
        format!("{written} (virtual {virtually})")
    }
}

/// What it runs, between quotes; an argument with blanks is between some of its own.
pub(crate) fn command(container: &Container, no_trunc: bool) -> String {
    let mut words = container.config.command();
    for word in words.iter_mut().skip(1).filter(|word| word.contains(' ')) {
        *word = format!("'{word}'");
    }
    let line = words.join(" ");
    match no_trunc {
        true => format!("{line:?}"),
        false => format!("{:?}", shortened(&line, LONGEST_COMMAND)),
    }
}

fn shortened(text: &str, longest: usize) -> String {
    match text.chars().count() <= longest {
        true => text.to_owned(),
        false => text.chars().take(longest - 1).chain(['…']).collect(),
    }
}
