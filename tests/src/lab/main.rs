//! `cargo lab`: the student's and the maintainer's one tool.

mod archive;
mod book;
mod call;
mod check;
mod cleanup;
mod clients;
mod diff;
mod doctor;
mod expand;
mod hint;
mod images;
mod kernel;
mod rehearse;
mod session;
mod shell;
mod solve;
mod start;
mod starter;
mod status;
mod suite;
mod system;
mod tasks;
mod terminal;
mod vm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use tasks::TaskId;

/// Learn containers by building one: look, start, check; and test the project itself.
#[derive(Parser)]
#[command(name = "lab", bin_name = "cargo lab", version)]
enum Lab {
    /// Look whether the steps run on this machine, and say what helps where they do not
    #[command(after_help = "Example: cargo lab doctor")]
    Doctor {
        /// Write the findings to a file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Write a workspace in which step N is yours to write, and the steps before it are there
    #[command(after_help = "Example: cargo lab start 2 ../lab2")]
    Start {
        /// The step, 1 to 5
        #[arg(value_name = "N")]
        step: u8,
        /// The new directory [default: minidocker-labN beside this repository]
        dir: Option<PathBuf>,
    },
    /// Give a hint for a task
    #[command(after_help = "Example: cargo lab hint 1.4")]
    Hint {
        /// The task
        #[arg(value_name = "N.K")]
        task: TaskId,
        /// A longer one
        #[arg(long)]
        more: bool,
    },
    /// Grade a step, or any program that does what the step's does
    #[command(after_help = "Example: cargo lab check 2 --bin ./my-container")]
    Check(check::Options),
    /// Show which tasks of a step are done; the checks decide
    #[command(after_help = "Example: cargo lab status 2")]
    Status {
        /// The step [default: that of the lab that you are in]
        #[arg(value_name = "N")]
        step: Option<u8>,
    },
    /// Show how the story grows from step N to step M
    #[command(after_help = "Example: cargo lab diff 1 2")]
    Diff {
        /// The step before
        #[arg(value_name = "N")]
        from: u8,
        /// The step after
        #[arg(value_name = "M")]
        to: u8,
    },
    /// Build the book, and serve it on this machine until Ctrl-C
    #[command(after_help = "Example: cargo lab book --open")]
    Book {
        /// Open it in a browser
        #[arg(long, conflicts_with = "build")]
        open: bool,
        /// The port of 127.0.0.1 to serve it on
        #[arg(long, default_value_t = 3000, value_parser = clap::value_parser!(u16).range(1..))]
        port: u16,
        /// Only build it, into target/book/en
        #[arg(long)]
        build: bool,
        /// Show what does not resolve on its page, instead of failing
        #[arg(long)]
        draft: bool,
    },
    /// Boot a Debian kernel in an emulated machine, with the workspace's programs
    #[command(after_help = "Example: cargo lab vm -- step03 run --memory 64m /bin/sh")]
    Vm {
        /// End the machine after so many seconds [default: 1200, none for a terminal]
        #[arg(long, value_name = "SECONDS")]
        limit: Option<u64>,
        /// The command to run [default: a shell]
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// Remove what a crashed experiment left behind: cgroups, links, rules, mounts, files
    #[command(after_help = "Example: cargo lab cleanup --dry-run")]
    Cleanup {
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// For instructors: put the reference's body of a task into a starter
    #[command(after_help = "Example: cargo lab solve 2.1 ../minidocker-lab2")]
    Solve {
        /// The task
        #[arg(value_name = "N.K")]
        task: TaskId,
        /// The starter's directory [default: the one that you are in]
        dir: Option<PathBuf>,
    },
    /// Do what the book tells a reader to do, and compare what comes with what it shows
    #[command(after_help = "Example: cargo lab rehearse 01-namespaces")]
    Rehearse {
        /// Keep the clone in this directory, for the next time
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
        /// Tell of each line that is typed
        #[arg(long, short)]
        verbose: bool,
        /// Another repository than this one, for the tests
        #[arg(long, value_name = "DIR", hide = true)]
        repository: Option<PathBuf>,
        /// The pages, such as 01-namespaces [default: all]
        #[arg(value_name = "PAGE")]
        pages: Vec<String>,
    },
    /// Run every check and test there is; on Debian, as root, install what they need
    #[command(after_help = "Example: cargo lab test")]
    Test,
    /// Fill in the book's pages, as mdBook's preprocessor
    #[command(hide = true)]
    Expand {
        /// `supports RENDERER`, mdBook's question
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Lab::parse() {
        Lab::Doctor { json } => doctor::run(json.as_deref()),
        Lab::Start { step, dir } => start::run(step, dir.as_deref()),
        Lab::Hint { task, more } => hint::run(task, more),
        Lab::Check(options) => check::run(&options),
        Lab::Status { step } => status::run(step),
        Lab::Diff { from, to } => diff::run(from, to),
        Lab::Book {
            open,
            port,
            build,
            draft,
        } => book::run(&book::Plan {
            build,
            open,
            port,
            draft,
        }),
        Lab::Vm { limit, command } => vm::run(&command, limit),
        Lab::Cleanup { dry_run } => cleanup::run(dry_run),
        Lab::Solve { task, dir } => solve::run(task, dir.as_deref()),
        Lab::Rehearse {
            keep,
            verbose,
            repository,
            pages,
        } => rehearse::run(&rehearse::Plan {
            pages,
            keep,
            verbose,
            repository,
        }),
        Lab::Test => suite::run(),
        Lab::Expand { arguments } => expand::run(&arguments),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("lab: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The directory of the workspace's Cargo.toml.
fn workspace() -> Result<PathBuf> {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    Ok(tests
        .parent()
        .context("the package has no workspace around it")?
        .to_owned())
}

/// The directory that cargo builds this profile's programs in.
fn build_dir() -> Result<PathBuf> {
    let here = std::env::current_exe().context("find this program")?;
    Ok(here
        .parent()
        .context("this program is in no directory")?
        .to_owned())
}

/// The directory that cargo builds everything in, whatever the profile; the lab
/// keeps here what it makes once.
fn target_dir() -> Result<PathBuf> {
    let build = build_dir()?;
    Ok(build
        .parent()
        .context("cargo's build directory has no parent")?
        .to_owned())
}
