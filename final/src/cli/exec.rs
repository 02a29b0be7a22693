//! `exec`

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::Containers;
use minidocker::engine::containers::session::{DetachKeys, Manner, Session, check_input};
use minidocker::shim::protocol::Exec as Wish;
use namespaces::Failure;

use crate::options::{pairs, process};
use crate::session;
use crate::{Context, PROGRAM};

/// Run a command in a container that runs
#[derive(Debug, Args)]
#[command(
    args_override_self = true,
    after_help = "Example: minidocker exec -it web sh"
)]
pub(crate) struct Exec {
    /// Leave it running in the background
    #[arg(short, long)]
    detach: bool,
    /// Be its standard input
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set a variable of its environment; KEY alone passes on your own
    #[arg(short, long, value_name = "KEY[=VALUE]", allow_hyphen_values = true, value_parser = pairs::variable)]
    env: Vec<String>,
    /// Set those that a file lists
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Directory to start in [default: the container's]
    #[arg(short, long, value_name = "DIR", value_parser = process::directory)]
    workdir: Option<String>,
    /// Who runs it: names or numbers [default: the container's user]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Almost all that the host's root may do
    #[arg(long)]
    privileged: bool,
    /// The keys that leave the command running [default: ctrl-p,ctrl-q]
    #[arg(long, value_name = "KEYS")]
    detach_keys: Option<DetachKeys>,
    /// A name or an id; then the command and its arguments
    #[arg(required = true, num_args = 2.., trailing_var_arg = true, value_names = ["CONTAINER", "COMMAND"])]
    container_and_command: Vec<String>,
}

impl Exec {
    /// A command that cannot be executed has the statuses 126 and 127, as with `run`.
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        self.go(context).or_else(|error| {
            let status = error
                .downcast_ref()
                .map_or(1, |failure: &Failure| match failure.status {
                    // Docker knows no third number here for what cannot be run.
                    125 => 126,
                    status => status,
                });
            cli::complain(PROGRAM, &error);
            Ok(status)
        })
    }

    fn go(self, context: &Context) -> Result<u8> {
        let attached = !self.detach;
        let stdin = attached && self.interactive;
        check_input(stdin, self.tty)?;
        let mut words = self.container_and_command.into_iter();
        let container = words.next().unwrap_or_default();
        let mut env = pairs::variables(&self.env_file, &self.env)?;
        // What we do not have ourselves is not passed on.
        env.retain(|variable| variable.contains('='));
        let wish = Wish {
            args: words.collect(),
            env,
            working_dir: self.workdir.unwrap_or_default(),
            user: self.user.unwrap_or_default(),
            tty: self.tty,
            size: session::size(),
            privileged: self.privileged,
        };
        let containers = Containers::open(&context.dirs)?;
        let execed = containers.exec(&container, wish, attached, stdin)?;
        if !attached {
            return Ok(0);
        }
        let manner = Manner {
            tty: self.tty,
            stdin,
            detach_keys: self.detach_keys.unwrap_or_default(),
            ..Manner::default()
        };
        session::run_to_the_end(Session::execed(execed, manner)?)
    }
}
