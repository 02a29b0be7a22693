//! `minirunc`: an OCI runtime with runc's command line.
//!
//! Each command reads its options, makes one call of the runtime and prints
//! what comes back; the kernel is not spoken of here.

mod exec;
mod life;
mod log;
mod resources;
mod show;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{ArgAction, Parser, Subcommand, ValueEnum};
use minidocker::runtime::{Id, Runtime, run_where_sealed};

/// What `--version` says after the program's name; docker and podman read it.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.2.0");

/// Run containers from OCI bundles.
///
/// A bundle is a directory with a root file system and a configuration:
///
///     mkdir -p box/rootfs && tar -C box/rootfs -xf rootfs.tar
///     minirunc spec --bundle box
///     minirunc run --bundle box mybox
#[derive(Debug, Parser)]
#[command(name = "minirunc", version = VERSION, disable_version_flag = true, verbatim_doc_comment)]
struct Cli {
    /// Where the state of containers is kept [default: /run/minirunc, without
    /// root $XDG_RUNTIME_DIR/minirunc]
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Append errors and warnings to this file, too
    #[arg(long, global = true, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How they are written there
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// Tell each kernel call, and why it is made
    #[arg(long, global = true)]
    debug: bool,
    /// Not supported: cgroups are made in the cgroup file system
    #[arg(long, global = true)]
    systemd_cgroup: bool,
    /// Taken for runc's sake: whether there is root is found out
    #[arg(long, value_name = "WHEN")]
    rootless: Option<Rootless>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rootless {
    Auto,
    True,
    False,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(life::Create),
    Start(life::Start),
    Run(life::Run),
    Exec(exec::Exec),
    Kill(life::Kill),
    Delete(life::Delete),
    State(show::State),
    List(show::List),
    Ps(show::Ps),
    Pause(resources::Pause),
    Resume(resources::Resume),
    Update(resources::Update),
    Events(resources::Events),
    Spec(show::Spec),
    Features(show::Features),
}

fn main() -> ExitCode {
    cli::default_sigpipe();
    // Before anything else is done, for it is all done again there.
    if begins_a_process()
        && let Err(error) = run_where_sealed()
    {
        return log::complain(&error, 1);
    }
    let arguments = match Cli::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return log::usage(&error),
    };
    // An exec that fails has the status that no command has (runc's).
    let failed = match &arguments.command {
        Command::Exec(_) => 255,
        _ => 1,
    };
    match run(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => log::complain(&error, failed),
    }
}

/// Whether the command, wherever it stands, may run something in a container.
/// An option's value or a container's name that is mistaken for one costs a copy.
fn begins_a_process() -> bool {
    env::args_os().any(|word| word == "create" || word == "run" || word == "exec")
}

fn run(arguments: Cli) -> Result<u8> {
    log::open(
        arguments.log.as_deref(),
        arguments.log_format,
        arguments.debug,
    )?;
    ensure!(
        !arguments.systemd_cgroup,
        "systemd cgroups are not supported; leave --systemd-cgroup away (podman: --cgroup-manager=cgroupfs)"
    );
    let root = match arguments.root {
        Some(root) => root,
        None => Runtime::default_root()?,
    };
    let runtime = Runtime::at(root);
    match arguments.command {
        Command::Create(command) => command.run(&runtime),
        Command::Start(command) => command.run(&runtime),
        Command::Run(command) => return command.run(&runtime),
        Command::Exec(command) => return command.run(&runtime),
        Command::Kill(command) => command.run(&runtime),
        Command::Delete(command) => command.run(&runtime),
        Command::State(command) => command.run(&runtime),
        Command::List(command) => command.run(&runtime),
        Command::Ps(command) => command.run(&runtime),
        Command::Pause(command) => command.run(&runtime),
        Command::Resume(command) => command.run(&runtime),
        Command::Update(command) => command.run(&runtime),
        Command::Events(command) => command.run(&runtime),
        Command::Spec(command) => command.run(),
        Command::Features(command) => command.run(),
    }?;
    Ok(0)
}

/// The container that a command is about.
#[derive(Debug, clap::Args)]
struct Subject {
    /// The container's id
    #[arg(value_name = "CONTAINER-ID")]
    id: Id,
}
