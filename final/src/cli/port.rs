//! `port`

use anyhow::{Result, bail, ensure};
use clap::Args;
use minidocker::engine::containers::Containers;
use minidocker::engine::containers::ports::{on_host, published};
use minidocker::state::Port as Published;

use crate::Context;

/// Show where a container's ports are published
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker port web 80/tcp")]
pub(crate) struct Port {
    /// A name or an id
    container: String,
    /// Only this one
    #[arg(value_name = "PORT[/PROTOCOL]")]
    port: Option<String>,
}

impl Port {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let container = Containers::open(&context.dirs)?.find(&self.container)?;
        let mut ports = published(&container);
        let Some(wanted) = self.port else {
            for port in &ports {
                cli::say(&format!("{} -> {}", inside(port), on_host(port)))?;
            }
            return Ok(0);
        };
        let (number, protocol) = wanted.split_once('/').unwrap_or((&wanted, "tcp"));
        let Ok(number) = number.parse::<u16>() else {
            bail!("invalid port '{number}': a number from 1 to 65535 is wanted");
        };
        let wanted = format!("{number}/{protocol}");
        ports.retain(|port| inside(port) == wanted);
        ensure!(
            !ports.is_empty(),
            "no public port '{wanted}' published for {}",
            self.container
        );
        for port in &ports {
            cli::say(&on_host(port).to_string())?;
        }
        Ok(0)
    }
}

fn inside(port: &Published) -> String {
    format!("{}/{}", port.container, port.protocol)
}
