//! Step 5: a process that wakes up in an image.

mod options;
mod run;
mod shelf;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cli::Dirs;
use images::ImageName;
use options::Options;

/// Run a command in a container made from an image.
#[derive(Parser)]
#[command(name = "step05", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print every kernel-facing operation and its reason
    #[arg(long, global = true, display_order = 100)]
    explain: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command in a new container.
    #[command(override_usage = "step05 run [OPTIONS] IMAGE [COMMAND] [ARG]...")]
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

fn main() -> ExitCode {
    let Cli { verb, explain } = Cli::parse();
    cli::start("step05", explain);
    let done = namespaces::is_privileged()
        .and_then(Dirs::of_caller)
        .and_then(|dirs| match &verb {
            Verb::Run(options) => run::run(&dirs, options),
            Verb::Load { path, name } => shelf::load(&dirs, path, name.as_ref()),
            Verb::Images => shelf::list(&dirs),
            Verb::Rmi { images } => shelf::remove(&dirs, images),
            Verb::Inspect { images } => shelf::inspect(&dirs, images),
        });
    cli::end("step05", done, namespaces::exit_status)
}
