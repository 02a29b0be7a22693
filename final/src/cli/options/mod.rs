//! The flags that `run` and `create` share: from words to what a container is to be.
//!
//! Each file reads one family of them, and writes what it read into docker's two documents: the
//! `Config`, which could go with an image, and the `HostConfig`, which belongs to this machine.

mod life;
mod limits;
mod mounts;
mod network;
pub(crate) mod pairs;
pub(crate) mod process;
mod security;
mod size;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::builder::{Resettable, Str};
use clap::{ArgAction, Args};
use images::Platform;
use minidocker::engine::containers::Wish;
use minidocker::state::{Config, HostConfig, check_name};

/// What stands apart from all families of flags.
const NO_HEADING: Resettable<Str> = Resettable::Reset;

/// What a container is to be.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to call it
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    /// For which machine the image is to be, as linux/arm64/v8
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<Platform>,
    /// Which streams to be connected with: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", ignore_case = true, value_parser = ["stdin", "stdout", "stderr"])]
    attach: Vec<String>,
    /// Write its id to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    #[command(flatten)]
    process: process::Process,
    #[command(flatten)]
    life: life::Life,
    #[command(flatten)]
    mounts: mounts::Mounts,
    #[command(flatten)]
    network: network::Network,
    #[command(flatten)]
    limits: limits::Limits,
    #[command(flatten)]
    security: security::Security,
    /// Print help
    #[arg(long, action = ArgAction::Help, help_heading = NO_HEADING)]
    help: Option<bool>,
    /// An image, by its name or id; then the command and its arguments
    #[arg(
        required = true, trailing_var_arg = true, value_name = "IMAGE", help_heading = NO_HEADING
    )]
    image_and_command: Vec<String>,
}

impl Options {
    /// The image's name. To clap it is one list with the command: from an argument of its own it
    /// would take `--`, and what looks like an option of ours, out of the command's.
    pub(crate) fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// Whether a stream was named, and if so whether it is this one.
    pub(crate) fn attaches(&self, stream: &str) -> Option<bool> {
        let named = |name: &String| name.eq_ignore_ascii_case(stream);
        (!self.attach.is_empty()).then(|| self.attach.iter().any(named))
    }

    /// Whether our standard input is for it.
    pub(crate) fn wants_input(&self) -> bool {
        self.attaches("stdin")
            .unwrap_or(self.process.around.interactive)
    }

    /// Whether it is to have a terminal.
    pub(crate) fn wants_terminal(&self) -> bool {
        self.process.around.tty
    }

    /// What they ask for.
    ///
    /// # Errors
    /// Something makes no sense.
    pub(crate) fn wish(self) -> Result<Wish> {
        let stdout = self.attaches("stdout");
        let stderr = self.attaches("stderr");
        let mut host = HostConfig::default();
        let mut config = Config {
            attach_stdin: self.wants_input(),
            attach_stdout: stdout.unwrap_or(true),
            attach_stderr: stderr.unwrap_or(true),
            image: self.image().to_owned(),
            cmd: self.image_and_command.get(1..).unwrap_or_default().to_vec(),
            ..Config::default()
        };
        let entrypoint = self.process.write(&mut config)?;
        // Its input ends with whoever was attached to it first.
        config.stdin_once = config.open_stdin && config.attach_stdin;
        self.life.write(&mut config, &mut host)?;
        let mounted = self.mounts.read()?;
        host.binds = mounted.binds;
        host.tmpfs = mounted.tmpfs;
        host.volumes_from = mounted.volumes_from;
        host.readonly_rootfs = mounted.read_only;
        config.exposed_ports = self.network.write(&mut host)?;
        self.limits.write(&mut host);
        self.security.write(&mut host)?;
        Ok(Wish {
            name: self.name,
            config,
            entrypoint,
            host,
            mounts: mounted.volumes,
        })
    }
}

fn name(text: &str) -> Result<String> {
    check_name(text).map(str::to_owned)
}

/// As Go reads one.
///
/// # Errors
/// It is neither.
pub(crate) fn boolean(text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => bail!("{text:?} is neither true nor false"),
    }
}
