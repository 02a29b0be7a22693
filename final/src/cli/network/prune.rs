//! `network prune`

use anyhow::Result;
use clap::Args;
use minidocker::engine::networks::Networks;

use crate::Context;
use crate::prune::{COMMON, Scope, say_deleted};

/// Remove all networks that no container is in
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network prune --force --filter until=24h")]
pub(crate) struct Prune {
    #[command(flatten)]
    scope: Scope,
}

impl Prune {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let (only, _) = self.scope.restriction(&COMMON)?;
        let what = "remove all custom networks not used by at least one container.";
        if self.scope.confirmed(what)? {
            let pruned = Networks::open(&context.dirs).prune(&only)?;
            say_deleted("Networks", &pruned)?;
        }
        Ok(0)
    }
}
