//! Step 3: a process that may use so much and no more.

mod run;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use cgroups::Cpus;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use rootfs::Volume;

/// Run a command in a container with limits.
#[derive(Parser)]
#[command(name = "step03", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command in a new container.
    #[command(
        override_usage = "step03 run [OPTIONS] [--] COMMAND [ARG]...",
        after_help = "Example: step03 run --memory 64m --pids-limit 32 /bin/sh"
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
    /// Root file system [default: one made from the host's own programs]
    #[arg(long, value_name = "DIR")]
    rootfs: Option<PathBuf>,
    /// Mount the root file system read-only
    #[arg(long)]
    read_only: bool,
    /// Share a file or directory of the host
    #[arg(short, long = "volume", value_name = "SRC:DST[:ro]",
          value_parser = OsStringValueParser::new().try_map(|text| Volume::parse(&text)))]
    volumes: Vec<Volume>,
    /// Limit of memory, none of it in swap [units: b, k, m, g]
    #[arg(short, long, value_name = "BYTES", value_parser = cgroups::parse_memory)]
    memory: Option<u64>,
    /// Limit of processor time, in processors
    #[arg(long, value_name = "NUMBER", value_parser = cgroups::parse_cpus)]
    cpus: Option<Cpus>,
    /// Limit of processes and threads
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pids_limit: Option<u64>,
    /// Print every kernel-facing operation and its reason
    #[arg(long)]
    explain: bool,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let Verb::Run(options) = Cli::parse().verb;
    cli::start("step03", options.explain);
    cli::end("step03", run::run(&options), namespaces::exit_status)
}
