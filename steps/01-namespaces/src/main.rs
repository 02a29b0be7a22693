//! Step 1: a process that sees a machine of its own.

mod run;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Run a command in namespaces of its own.
#[derive(Parser)]
#[command(name = "step01", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command in a new container.
    #[command(
        override_usage = "step01 run [OPTIONS] [--] COMMAND [ARG]...",
        after_help = "Example: step01 run --hostname box /bin/sh"
    )]
    Run(Options),
}

/// What a container is like at this step.
#[derive(Args)]
struct Options {
    /// Name of the container's machine [default: the container's id]
    #[arg(long, value_name = "NAME", value_parser = namespaces::parse_hostname)]
    hostname: Option<String>,
    /// Run a small init as pid 1, which reaps orphans and passes signals on
    #[arg(long)]
    init: bool,
    /// Print every kernel-facing operation and its reason
    #[arg(long)]
    explain: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let Verb::Run(options) = Cli::parse().verb;
    cli::start("step01", options.explain);
    cli::end("step01", run::run(&options), namespaces::exit_status)
}
