//! `system …`

mod boot;
mod check;
mod df;
pub(crate) mod info;
mod prune;

use anyhow::Result;
use clap::Subcommand;

use crate::Context;
use crate::events::Events;

/// Look after what minidocker keeps on this machine
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub(crate) enum System {
    Check(check::Check),
    Df(df::Df),
    Events(Events),
    Info(info::Info),
    Prune(prune::Prune),
    Start(boot::Start),
    Stop(boot::Stop),
}

impl System {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        match self {
            System::Check(check) => check.run(context),
            System::Df(df) => df.run(context),
            System::Events(events) => events.run(context),
            System::Info(info) => info.run(context),
            System::Prune(prune) => prune.run(context),
            System::Start(start) => start.run(context),
            System::Stop(stop) => stop.run(context),
        }
    }
}
