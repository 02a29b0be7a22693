//! `exec`

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::Containers;
use minidocker::engine::containers::session::{DetachKeys, Manner, Session, check_input};
use minidocker::shim::protocol::Exec as Wish;
use namespaces::Failure;

use crate::options::process::Surroundings;
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
    #[command(flatten)]
    around: Surroundings,
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
        // Who does not wait for it has nothing to do with its status.
        let attached = !self.detach;
        self.go(context).or_else(|error| {
            let failure = error.downcast_ref().filter(|_| attached);
            let status = failure.map_or(1, |failure: &Failure| match failure.status {
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
        let around = self.around;
        let stdin = attached && around.interactive;
        check_input(stdin, around.tty)?;
        let mut words = self.container_and_command.into_iter();
        let container = words.next().unwrap_or_default();
        let mut env = around.env()?;
        // What we do not have ourselves is not passed on.
        env.retain(|variable| variable.contains('='));
        let wish = Wish {
            args: words.collect(),
            env,
            working_dir: around.workdir.unwrap_or_default(),
            user: around.user.unwrap_or_default(),
            tty: around.tty,
            size: session::size(),
            privileged: self.privileged,
        };
        let containers = Containers::open(&context.dirs)?;
        let execed = containers.exec(&container, wish, attached, stdin)?;
        if !attached {
            return Ok(0);
        }
        let manner = Manner {
            tty: around.tty,
            stdin,
            detach_keys: self.detach_keys.unwrap_or_default(),
            ..Manner::default()
        };
        session::run_to_the_end(Session::execed(execed, manner)?)
    }
}
