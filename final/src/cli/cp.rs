//! `cp`

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use minidocker::engine::containers::{Containers, Copying, Local};

use crate::{Context, tell};

/// Copy files between a container and the host
///
/// One of the two is CONTAINER:PATH; - in place of the other is a tar archive on standard input or
/// output. DIR/. is a directory's content without itself.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker cp ./site/. web:/srv/www")]
pub(crate) struct Cp {
    /// Files keep their owners
    #[arg(short, long)]
    archive: bool,
    /// A source that is a symbolic link is what it leads to
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Do not say how much was copied; the default where standard output is no terminal
    #[arg(
        short, long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new()
    )]
    quiet: Option<bool>,
    /// Where from
    #[arg(value_name = "[CONTAINER:]SOURCE|-")]
    source: String,
    /// Where to
    #[arg(value_name = "[CONTAINER:]DESTINATION|-")]
    destination: String,
}

impl Cp {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        ensure!(!self.source.is_empty(), "source can not be empty");
        ensure!(!self.destination.is_empty(), "destination can not be empty");
        for (_, path) in [&self.source, &self.destination]
            .into_iter()
            .filter_map(|it| split(it))
        {
            ensure!(!path.is_empty(), "bad parameter: path cannot be empty");
        }
        let containers = Containers::open(&context.dirs)?;
        let how = Copying {
            archive: self.archive,
            follow: self.follow_link,
        };
        let (count, to) = match (split(&self.source), split(&self.destination)) {
            (None, Some((container, path))) => {
                let from = local(&self.source);
                let count = containers.copy_in(&from, container, path, how)?;
                (count, self.destination.clone())
            }
            (Some((container, path)), None) => {
                let to = local(&self.destination);
                let count = containers.copy_out(container, path, &to, how)?;
                if matches!(to, Local::Stream) {
                    return Ok(0);
                }
                (count, self.destination.clone())
            }
            (Some(_), Some(_)) => bail!("copying between containers is not supported"),
            (None, None) => bail!("must specify at least one container source"),
        };
        if !self.quiet.unwrap_or(!io::stdout().is_terminal()) {
            let copied = cli::size(count, 3);
            tell(&format!("Successfully copied {copied} to {to}"));
        }
        Ok(0)
    }
}

/// `CONTAINER:PATH`. What begins like a path of the host is one, colons and all.
fn split(text: &str) -> Option<(&str, &str)> {
    let (container, path) = text.split_once(':')?;
    let is_host = text.starts_with('/') || container.starts_with('.') || container.is_empty();
    (!is_host).then_some((container, path))
}

fn local(text: &str) -> Local {
    match text {
        "-" => Local::Stream,
        path => Local::Path(PathBuf::from(path)),
    }
}
