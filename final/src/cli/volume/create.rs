//! `volume create`

use anyhow::{Result, ensure};
use clap::Args;
use minidocker::engine::volumes::Volumes;

use crate::Context;
use crate::options::pairs::{label, labels};

/// Make a volume, and print its name
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker volume create --label tier=db data")]
pub(crate) struct Create {
    /// Who keeps it; there is the one driver
    #[arg(short, long, value_name = "DRIVER", default_value = "local")]
    driver: String,
    /// What to write on it
    #[arg(long, value_name = "KEY[=VALUE]", value_parser = label)]
    label: Vec<String>,
    /// Where its files are, if not in it: type=none, o=bind and device=PATH; or what to mount, as
    /// mount(8) has it: type=tmpfs, device=tmpfs and o=size=10m
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// What to call it; without one it gets 64 digits
    name: Option<String>,
}

impl Create {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let name = self.name.as_deref().filter(|name| !name.is_empty());
        let driver = &self.driver;
        ensure!(
            driver == "local",
            "create {}: error looking up volume plugin {driver}: plugin \"{driver}\" not found",
            name.unwrap_or_default()
        );
        let (labels, options) = (labels(&[], &self.label)?, labels(&[], &self.opt)?);
        let volume = Volumes::open(&context.dirs).create(name, labels, options)?;
        cli::say(&volume.name)?;
        Ok(0)
    }
}
