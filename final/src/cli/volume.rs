//! `volume …`: directories that outlive containers.

mod create;
mod ls;
mod prune;
mod rm;

use anyhow::Result;
use clap::Subcommand;
use minidocker::engine::volumes::Volumes;
use minidocker::state::LocalVolume;
use serde_json::{Value, json};

use crate::Context;
use crate::inspect::InspectVolumes;
use crate::time::rfc3339;

/// Make and remove volumes
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Volume {
    Create(create::Create),
    Inspect(InspectVolumes),
    #[command(alias = "list")]
    Ls(ls::Ls),
    Prune(prune::Prune),
    #[command(alias = "remove")]
    Rm(rm::Rm),
}

impl Volume {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        match self {
            Volume::Create(create) => create.run(context),
            Volume::Inspect(inspect) => inspect.run(context),
            Volume::Ls(ls) => ls.run(context),
            Volume::Prune(prune) => prune.run(context),
            Volume::Rm(rm) => rm.run(context),
        }
    }
}

/// All that is known about a volume, by docker's names.
pub(crate) fn shown(volumes: &Volumes, volume: &LocalVolume) -> Value {
    let or_null = |map: &std::collections::BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    json!({
        "CreatedAt": rfc3339(volume.created, 0),
        "Driver": "local",
        "Labels": or_null(&volume.labels),
        "Mountpoint": volumes.mountpoint(volume),
        "Name": volume.name,
        "Options": or_null(&volume.options),
        "Scope": "local",
    })
}
