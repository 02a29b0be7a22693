//! `system df`

use anyhow::Result;
use clap::Args;
use images::ImageName;
use jiff::Timestamp;
use minidocker::engine::containers::{Containers, Disk};
use serde_json::{Value, json};

use crate::Context;
use crate::format::{List, aligned};
use crate::ps;
use crate::time::ago;

/// Show what takes up the disk
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker system df -v")]
pub(crate) struct Df {
    /// How to print it: table, "table TEMPLATE", json, or a template of Go's
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show each thing
    #[arg(short, long, conflicts_with = "format")]
    verbose: bool,
}

const COLUMNS: &str = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const HEADERS: [(&str, &str); 5] = [
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

impl Df {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        let disk = Containers::open(&context.dirs)?.disk()?;
        if self.verbose {
            return each(&disk);
        }
        let list = List {
            columns: COLUMNS,
            headers: &HEADERS,
            rows: kinds(&disk),
            ..List::default()
        };
        let lines = list.lines(self.format.as_deref().unwrap_or_default())?;
        lines.iter().try_for_each(|line| cli::say(line))?;
        Ok(0)
    }
}

/// A row for each kind of thing.
fn kinds(disk: &Disk) -> Vec<Value> {
    let images = disk.images.iter().map(|it| (it.containers > 0, 0));
    let images: Vec<_> = images.collect();
    let containers = disk.containers.iter();
    let containers = containers.map(|(it, size)| (it.life.status.needs_shim(), *size));
    let containers: Vec<_> = containers.collect();
    let volumes = disk.volumes.iter().map(|it| (it.containers > 0, it.size));
    let volumes: Vec<_> = volumes.collect();
    let sums = |things: &[(bool, u64)]| {
        let all = things.iter().map(|(_, size)| size).sum();
        let spare = things.iter().filter(|(active, _)| !active);
        (all, spare.map(|(_, size)| size).sum())
    };
    vec![
        row("Images", &images, (disk.layers, disk.spare_layers)),
        row("Containers", &containers, sums(&containers)),
        row("Local Volumes", &volumes, sums(&volumes)),
        // There is none, but scripts count the lines.
        row("Build Cache", &[], (0, 0)),
    ]
}

/// Of `things` it is known which are active; they have so many bytes, some of which could be freed.
fn row(kind: &str, things: &[(bool, u64)], (size, spare): (u64, u64)) -> Value {
    let freed = cli::size(spare, 4);
    let share = spare.saturating_mul(100).checked_div(size);
    json!({
        "Active": things.iter().filter(|(active, _)| *active).count().to_string(),
        "Reclaimable": share.map_or(freed.clone(), |share| format!("{freed} ({share}%)")),
        "Size": cli::size(size, 4),
        "TotalCount": things.len().to_string(),
        "Type": kind,
    })
}

/// A table for each kind of thing.
fn each(disk: &Disk) -> Result<u8> {
    let now = Timestamp::now();
    let mut images = vec![
        "REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS".to_owned(),
    ];
    for it in &disk.images {
        let name = it.image.names().first();
        let none = || "<none>".to_owned();
        let created = it.image.created();
        images.push(
            [
                name.map_or_else(none, ImageName::repository),
                name.and_then(|name| name.tag())
                    .map_or_else(none, ToOwned::to_owned),
                it.image.short_id(),
                created.map_or_else(|| "N/A".to_owned(), |then| ago(then, now)),
                cli::size(it.image.size(), 3),
                cli::size(it.shared, 3),
                cli::size(it.image.size().saturating_sub(it.shared), 3),
                it.containers.to_string(),
            ]
            .join("\t"),
        );
    }
    let mut containers = vec![
        "CONTAINER ID\tIMAGE\tCOMMAND\tLOCAL VOLUMES\tSIZE\tCREATED\tSTATUS\tNAMES".to_owned(),
    ];
    for (it, size) in &disk.containers {
        let volumes = it.mounts.iter().filter(|mount| mount.r#type == "volume");
        containers.push(
            [
                it.short_id().to_owned(),
                it.config.image.clone(),
                ps::command(it, false),
                volumes.count().to_string(),
                cli::size(*size, 3),
                ago(it.created, now),
                ps::status::shown(&it.life, now),
                it.name.clone(),
            ]
            .join("\t"),
        );
    }
    let mut volumes = vec!["VOLUME NAME\tLINKS\tSIZE".to_owned()];
    for it in &disk.volumes {
        let (links, size) = (it.containers, cli::size(it.size, 3));
        volumes.push(format!("{}\t{links}\t{size}", it.volume.name));
    }
    for (what, lines) in [
        ("Images", images),
        ("Containers", containers),
        ("Local Volumes", volumes),
    ] {
        let table = aligned(&lines);
        cli::say(&format!("{what} space usage:\n\n{table}\n"))?;
    }
    cli::say("Build cache usage: 0B\n")?;
    Ok(0)
}
