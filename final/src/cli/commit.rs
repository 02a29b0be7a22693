//! `commit`

use anyhow::Result;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args};
use images::ImageName;
use minidocker::engine::containers::Containers;
use minidocker::engine::images::Commit as Wish;

use crate::Context;

/// Make an image of a container, as it is now
///
/// What is mounted into it stays out.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker commit -m 'add curl' -c 'CMD [\"curl\"]' web web:curl")]
pub(crate) struct Commit {
    /// A name or an id
    container: String,
    /// What to call the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<ImageName>,
    /// Who made it
    #[arg(short, long, value_name = "NAME")]
    author: Option<String>,
    /// How a container of it is to run: an instruction as in a Dockerfile
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// What its history says
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Whether the container's processes stand still meanwhile
    #[arg(
        short, long, value_name = "BOOL", default_value_t = true, num_args = 0..=1,
        require_equals = true, default_missing_value = "true", action = ArgAction::Set,
        value_parser = BoolishValueParser::new()
    )]
    pause: bool,
}

impl Commit {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let wish = Wish {
            name: self.name,
            author: self.author.unwrap_or_default(),
            message: self.message.unwrap_or_default(),
            changes: self.change,
            pause: self.pause,
        };
        let id = Containers::open(&context.dirs)?.commit(&self.container, &wish)?;
        cli::say(&id.to_string())?;
        Ok(0)
    }
}
