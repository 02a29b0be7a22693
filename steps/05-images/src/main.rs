//! Step 5: a process that wakes up in an image.

mod run;
mod shelf;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::process::ExitCode;

use cgroups::Cpus;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use cli::Dirs;
use images::ImageName;
use network::{Mode, Publish};
use rootfs::Volume;

/// Run a command in a container made from an image.
#[derive(Parser)]
#[command(name = "step05", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print every kernel-facing operation and its reason
    #[arg(long, global = true)]
    explain: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command in a new container.
    #[command(after_help = "Example: step05 run -e GREETING=hello -w /tmp host sh")]
    Run(Options),
    /// Take in images from an OCI layout or a docker-archive.
    #[command(after_help = "Example: docker save debian | gzip > d.tgz; step05 load d.tgz")]
    Load {
        /// A directory, or a tar file: plain, gzip or zstd
        #[arg(value_name = "FILE_OR_DIR")]
        path: PathBuf,
        /// What to call the image
        #[arg(long, value_name = "NAME:TAG")]
        name: Option<ImageName>,
    },
    /// List the images.
    Images,
    /// Remove images.
    #[command(after_help = "Example: step05 rmi debian:12")]
    Rmi {
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
    /// Show all that is known about images.
    #[command(after_help = "Example: step05 inspect host")]
    Inspect {
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
    },
}

/// What a container is like at this step.
#[derive(Args)]
struct Options {
    /// Name of the container's machine [default: the container's id]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Run a small init as pid 1, which reaps orphans and passes signals on
    #[arg(long)]
    init: bool,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Share a file or directory of the host
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]",
          value_parser = OsStringValueParser::new().try_map(|text| Volume::parse(&text)))]
    volumes: Vec<Volume>,
    /// Limit of memory, with swap [units: b, k, m, g]
    #[arg(short, long, value_name = "BYTES", value_parser = cgroups::parse_memory)]
    memory: Option<u64>,
    /// Limit of processor time, in processors
    #[arg(long, value_name = "NUMBER", value_parser = cgroups::parse_cpus)]
    cpus: Option<Cpus>,
    /// Limit of processes and threads
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pids_limit: Option<u64>,
    /// Lead a port of the host to the container
    #[arg(short, long, value_name = "[IP:]HOST:CONTAINER[/udp]")]
    publish: Vec<Publish>,
    /// What the container is connected to
    #[arg(long, value_name = "NETWORK", default_value = "bridge")]
    network: Mode,
    /// Set a variable of the environment; KEY alone passes on your own
    #[arg(short, long, value_name = "KEY=VALUE",
          value_parser = OsStringValueParser::new().try_map(variable))]
    env: Vec<OsString>,
    /// Directory to start in [default: what the image says]
    #[arg(short, long, value_name = "DIR", value_parser = absolute)]
    workdir: Option<PathBuf>,
    /// Who runs the command: names or numbers [default: what the image says]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<OsString>,
    /// A name, an id, or the beginning of an id
    image: String,
    /// The command and its arguments [default: what the image says]
    #[arg(trailing_var_arg = true)]
    command: Vec<OsString>,
}

fn variable(text: OsString) -> Result<OsString, String> {
    match text.as_bytes().first() {
        None | Some(b'=') => Err("a variable needs a name".to_owned()),
        Some(_) => Ok(text),
    }
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    path.is_absolute()
        .then_some(path)
        .ok_or_else(|| "it must be an absolute path".to_owned())
}

fn main() -> ExitCode {
    let Cli { verb, explain } = Cli::parse();
    cli::start("step05", explain);
    let done = namespaces::is_privileged()
        .and_then(Dirs::of_caller)
        .and_then(|dirs| match &verb {
            Verb::Run(options) => run::run(options),
            Verb::Load { path, name } => shelf::load(&dirs, path, name.as_ref()),
            Verb::Images => shelf::list(&dirs),
            Verb::Rmi { images } => shelf::remove(&dirs, images),
            Verb::Inspect { images } => shelf::inspect(&dirs, images),
        });
    done.map_or_else(
        |error| {
            cli::complain("step05", &error);
            namespaces::exit_status(&error).into()
        },
        ExitCode::from,
    )
}
