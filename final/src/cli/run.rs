//! `run` and `create`

mod id_file;
mod origin;

use anyhow::{Result, ensure};
use clap::Args;
use images::Image;
use minidocker::engine::containers::session::{Manner, Session, check_input};
use minidocker::engine::containers::{Attach, Containers, Wish};
use minidocker::shim::protocol::Stream;
use minidocker::state::Container;

use crate::options::Options;
use crate::session::{self, Keys};
use crate::usage::NO_SENSE;
use crate::{Context, PROGRAM};
use id_file::IdFile;
use origin::{Found, Origin, warn};

/// Create a container of an image, and start it
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    after_help = "Example: minidocker run -it --rm -v .:/work -w /work alpine sh"
)]
pub(crate) struct Run {
    /// Leave it running in the background, and print its id
    #[arg(short, long)]
    detach: bool,
    #[command(flatten)]
    keys: Keys,
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    options: Options,
}

/// Create a container of an image, and print its id
#[derive(Debug, Args)]
#[command(
    disable_help_flag = true,
    args_override_self = true,
    after_help = "Example: minidocker create --name web -p 8080:80 nginx"
)]
pub(crate) struct Create {
    #[command(flatten)]
    origin: Origin,
    #[command(flatten)]
    options: Options,
}

impl Create {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let named = self.options.image().to_owned();
        let platform = self.options.platform.clone();
        let file = self
            .options
            .cidfile
            .as_deref()
            .map(IdFile::new)
            .transpose()?;
        let wish = match self.options.wish() {
            Ok(wish) => wish,
            Err(error) => {
                cli::complain(PROGRAM, &error);
                return Ok(NO_SENSE);
            }
        };
        let image = match self.origin.find(context, &named, platform.as_ref())? {
            Found::Image(image) => image,
            Found::Ended(status) => return Ok(status),
        };
        let container = create(context, &image, wish, file)?;
        cli::say(&container.id)?;
        Ok(0)
    }
}

impl Run {
    /// What fails before the user's command runs has docker's statuses for it: 125, 126 and 127.
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let Run {
            detach, options, ..
        } = &self;
        if !detach {
            // Docker's client finds that out by itself, and has its own status for it.
            check_input(options.wants_input(), options.wants_terminal())?;
        }
        self.go(context).or_else(|error| {
            cli::complain(PROGRAM, &error);
            Ok(namespaces::exit_status(&error))
        })
    }

    fn go(self, context: &Context) -> Result<u8> {
        let Run {
            detach,
            keys,
            origin,
            options,
        } = self;
        ensure!(
            !(detach && options.attaches("stdin").is_some()),
            "Conflicting options: -a and -d"
        );
        let named = options.image().to_owned();
        let platform = options.platform.clone();
        let file = options.cidfile.as_deref().map(IdFile::new).transpose()?;
        let mut wish = options.wish()?;
        if detach {
            wish.config.attach_stdin = false;
            wish.config.attach_stdout = false;
            wish.config.attach_stderr = false;
            wish.config.stdin_once = false;
        }
        if wish.config.tty {
            wish.host.console_size = session::size();
        }
        let image = match origin.find(context, &named, platform.as_ref())? {
            Found::Image(image) => image,
            Found::Ended(status) => return Ok(status),
        };
        let container = create(context, &image, wish, file)?;
        start(context, &container, detach, &keys)
    }
}

fn start(context: &Context, container: &Container, detach: bool, keys: &Keys) -> Result<u8> {
    let containers = Containers::open(&context.dirs)?;
    let config = &container.config;
    let attach = Attach {
        stdin: config.attach_stdin && config.open_stdin,
    };
    match containers.start(&container.id, (!detach).then_some(attach))? {
        None => {
            cli::say(&container.id)?;
            Ok(0)
        }
        Some(connection) => {
            if !(config.attach_stdout || config.attach_stderr) {
                cli::say(&container.id)?;
            }
            let outputs = [
                (Stream::Out, config.attach_stdout),
                (Stream::Err, config.attach_stderr),
            ];
            let hidden = outputs.into_iter().filter(|(_, shown)| !shown);
            let manner = Manner {
                hidden: hidden.map(|(stream, _)| stream).collect(),
                ..keys.manner(config.tty, attach.stdin)
            };
            let places = containers.places(container);
            session::run(Session::attached(connection, places, manner)?)
        }
    }
}

fn create(context: &Context, image: &Image, wish: Wish, file: Option<IdFile>) -> Result<Container> {
    if wish.host.network_mode == "host" && !wish.host.ports.is_empty() {
        warn("Published ports are discarded when using host network mode");
    }
    let containers = Containers::open(&context.dirs)?;
    let container = containers.create(image, wish)?;
    if let Some(file) = file {
        file.write(&container.id)?;
    }
    Ok(container)
}
