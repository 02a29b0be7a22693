//! `run` and `create`

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};
use images::{Image, ImageName, Platform};
use minidocker::engine::containers::session::{Manner, Session, check_input};
use minidocker::engine::containers::{Attach, Containers, Wish};
use minidocker::engine::images::Images;
use minidocker::shim::protocol::Stream;
use minidocker::state::Container;

use crate::options::Options;
use crate::session::{self, Keys};
use crate::{Context, PROGRAM, pull};

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
    from: From,
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
    from: From,
    #[command(flatten)]
    options: Options,
}

/// Where the image comes from.
#[derive(Debug, Args)]
struct From {
    /// When to fetch the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pull: When,
    /// Say nothing while fetching it
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum When {
    Always,
    Missing,
    Never,
}

/// What a fetched image, or none, leads to.
enum Found {
    Image(Box<Image>),
    /// Somebody ended the fetching, with this status.
    Ended(u8),
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
        let image = match self.from.find(context, &named, platform.as_ref())? {
            Found::Image(image) => image,
            Found::Ended(status) => return Ok(status),
        };
        let container = create(context, &image, wish, file)?;
        cli::say(&container.id)?;
        Ok(0)
    }
}

/// The status of a command line that makes no sense, and of a container that could not be run.
const NO_SENSE: u8 = 125;

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
            from,
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
        let image = match from.find(context, &named, platform.as_ref())? {
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

fn warn(what: &str) {
    let _ = writeln!(io::stderr(), "WARNING: {what}");
}

impl From {
    /// The image, fetched where it is not at hand or `--pull` says so.
    fn find(&self, context: &Context, named: &str, platform: Option<&Platform>) -> Result<Found> {
        let find = || {
            let image = Images::open(&context.dirs)?.find(named)?;
            let fits = platform.is_none_or(|wanted| is_for(&image.platform(), wanted));
            ensure!(
                fits,
                "image with reference {named} was found but its platform ({}) does not match the \
                 specified platform",
                shown(&image.platform())
            );
            Ok(image)
        };
        let found = match (find(), self.pull) {
            (Ok(image), When::Missing | When::Never) => return Ok(with_warning(image, platform)),
            (Err(error), When::Never) => return Err(error),
            (found, _) => found,
        };
        let name: ImageName = named.parse()?;
        if found.is_err() && self.pull == When::Missing && !self.quiet {
            let _ = writeln!(io::stderr(), "Unable to find image '{name}' locally");
        }
        match pull::for_another(context, &name, platform, self.quiet)? {
            0 => Ok(with_warning(find()?, platform)),
            status => Ok(Found::Ended(status)),
        }
    }
}

fn with_warning(image: Image, wanted: Option<&Platform>) -> Found {
    let (its, here) = (image.platform(), Platform::here());
    if wanted.is_none() && its.architecture != here.architecture {
        warn(&format!(
            "The requested image's platform ({}) does not match the detected host platform ({}) \
             and no specific platform was requested",
            shown(&its),
            shown(&here)
        ));
    }
    Found::Image(Box::new(image))
}

fn is_for(its: &Platform, wanted: &Platform) -> bool {
    its.os == wanted.os
        && its.architecture == wanted.architecture
        && (wanted.variant.is_none() || its.variant == wanted.variant)
}

fn shown(platform: &Platform) -> String {
    let variant = platform.variant.iter().map(|variant| format!("/{variant}"));
    format!(
        "{}/{}{}",
        platform.os,
        platform.architecture,
        variant.collect::<String>()
    )
}

/// `--cidfile`: made before the container, so that two of them cannot share it. Dropped, it goes,
/// unless an id was written to it.
struct IdFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl IdFile {
    fn new(path: &Path) -> Result<IdFile> {
        let shown = path.display();
        let file = match File::create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "container ID file found, make sure the other container isn't running or delete \
                 {shown}"
            ),
            file => {
                file.with_context(|| format!("failed to create the container ID file {shown}"))?
            }
        };
        Ok(IdFile {
            path: path.to_owned(),
            file,
            written: false,
        })
    }

    fn write(mut self, id: &str) -> Result<()> {
        let written = self.file.write_all(id.as_bytes());
        written.with_context(|| {
            format!(
                "failed to write the container ID to the file {}",
                self.path.display()
            )
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}
