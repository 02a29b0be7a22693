//! `start` and `attach`

use anyhow::{Result, bail, ensure};
use clap::Args;
use minidocker::engine::containers::session::{Manner, Session, check_input};
use minidocker::engine::containers::{Attach as How, Containers};

use crate::session::{self, Keys};
use crate::{Context, complaint};

/// Start containers that do not run
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker start -ai box")]
pub(crate) struct Start {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// See what it writes, and end with its status
    #[arg(short, long)]
    attach: bool,
    /// Be its standard input, too
    #[arg(short, long)]
    interactive: bool,
    #[command(flatten)]
    keys: Keys,
}

impl Start {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        if self.attach || self.interactive {
            return self.with(&containers);
        }
        let mut failed = Vec::new();
        for name in &self.containers {
            let started = containers.start(name, None).and_then(|_| cli::say(name));
            if complaint(&started) != 0 {
                failed.push(name.as_str());
            }
        }
        ensure!(
            failed.is_empty(),
            "failed to start containers: {}",
            failed.join(", ")
        );
        Ok(0)
    }

    fn with(&self, containers: &Containers) -> Result<u8> {
        let [name] = self.containers.as_slice() else {
            bail!("you cannot start and attach multiple containers at once");
        };
        let container = containers.find(name)?;
        let stdin = self.interactive && container.config.open_stdin;
        check_input(stdin, container.config.tty)?;
        let Some(connection) = containers.start(&container.id, Some(How { stdin }))? else {
            return Ok(0);
        };
        let manner = self.keys.manner(container.config.tty, stdin);
        let places = containers.places(&container);
        session::run(Session::attached(connection, places, manner)?)
    }
}

/// Be with a container that runs: see what it writes, and be its standard input
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker attach --detach-keys ctrl-x box")]
pub(crate) struct Attach {
    /// A name or an id
    container: String,
    /// Only see what it writes
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    keys: Keys,
}

impl Attach {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        let config = containers.find(&self.container)?.config;
        let stdin = !self.no_stdin && config.open_stdin;
        check_input(stdin, config.tty)?;
        let (container, connection) = containers.attach(&self.container, How { stdin })?;
        let manner = Manner {
            redraw: true,
            ..self.keys.manner(config.tty, stdin)
        };
        let places = containers.places(&container);
        session::run_to_the_end(Session::attached(connection, places, manner)?)
    }
}
