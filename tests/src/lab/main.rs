//! `cargo lab`: the student's and the maintainer's one tool.

mod archive;
mod expand;
mod images;
mod kernel;
mod session;
mod suite;
mod system;
mod vm;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

/// Test minidocker, and run it in a virtual machine.
#[derive(Parser)]
#[command(name = "lab", bin_name = "cargo lab", version)]
enum Lab {
    /// Run every check and test there is; on Debian, as root, install what they need
    #[command(after_help = "Example: cargo lab test")]
    Test,
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
    /// Fill in the book's pages, as mdBook's preprocessor
    #[command(hide = true)]
    Expand {
        /// `supports RENDERER`, mdBook's question
        arguments: Vec<String>,
    },
}

fn main() -> ExitCode {
    let result = match Lab::parse() {
        Lab::Test => suite::run(),
        Lab::Vm { limit, command } => vm::run(&command, limit),
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
