//! `network …`

mod connect;
mod create;
mod ls;
mod prune;
mod reload;
mod rm;

use anyhow::Result;
use clap::Subcommand;

use crate::Context;
use crate::inspect::InspectNetworks;

/// Make and remove networks, and put containers into them
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum Network {
    Create(create::Create),
    #[command(alias = "list")]
    Ls(ls::Ls),
    Inspect(InspectNetworks),
    #[command(alias = "remove")]
    Rm(rm::Rm),
    Prune(prune::Prune),
    Connect(connect::Connect),
    Disconnect(connect::Disconnect),
    Reload(reload::Reload),
}

impl Network {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        match self {
            Network::Create(create) => create.run(context),
            Network::Ls(ls) => ls.run(context),
            Network::Inspect(inspect) => inspect.run(context),
            Network::Rm(rm) => rm.run(context),
            Network::Prune(prune) => prune.run(context),
            Network::Connect(connect) => connect.run(context),
            Network::Disconnect(disconnect) => disconnect.run(context),
            Network::Reload(reload) => reload.run(context),
        }
    }
}
