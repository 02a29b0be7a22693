//! `stop`, `restart`, `kill` and `wait`

use anyhow::Result;
use clap::Args;
use minidocker::engine::containers::{Containers, Stopping, parse_signal};

use crate::{Context, complaint, each};

/// How containers are stopped.
#[derive(Debug, Args)]
struct How {
    /// The signal that asks them to end [default: what the container says, or SIGTERM]
    #[arg(short, long, value_name = "SIGNAL", value_parser = parse_signal)]
    signal: Option<i32>,
    /// How long they then have; -1 for ever [default: what the container says, or 10]
    #[arg(
        short,
        long = "timeout",
        alias = "time",
        value_name = "SECONDS",
        allow_hyphen_values = true
    )]
    time: Option<i64>,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl How {
    fn stopping(&self) -> Stopping {
        Stopping {
            signal: self.signal,
            seconds: self.time,
        }
    }
}

/// Ask containers to end, and end those that do not
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker stop -t 30 web db")]
pub(crate) struct Stop {
    #[command(flatten)]
    how: How,
}

impl Stop {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        let how = self.how.stopping();
        // All have the same time to end, and it passes for all at once.
        let names = self.how.containers.iter();
        let asked: Vec<_> = names.map(|name| containers.ask_to_end(name, how)).collect();
        let mut status = 0;
        containers.see_ends(asked, |n, ended| {
            let name = self.how.containers.get(n).map_or("", String::as_str);
            status |= complaint(&ended.and_then(|_| cli::say(name)));
        });
        Ok(status)
    }
}

/// Stop containers, and start them again
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker restart -t 0 web")]
pub(crate) struct Restart {
    #[command(flatten)]
    how: How,
}

impl Restart {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        each(&self.how.containers, |name| {
            containers.restart(name, self.how.stopping())?;
            cli::say(name)
        })
    }
}

/// Send a signal to containers
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker kill -s HUP web")]
pub(crate) struct Kill {
    /// Which; SIGKILL goes to all processes, any other to the first
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL", value_parser = parse_signal)]
    signal: i32,
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Kill {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        each(&self.containers, |name| {
            containers.kill(name, self.signal)?;
            cli::say(name)
        })
    }
}

/// Wait until containers have ended, and print their exit statuses
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker wait job")]
pub(crate) struct Wait {
    /// Names or ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Wait {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let containers = Containers::open(&context.dirs)?;
        each(&self.containers, |name| {
            cli::say(&containers.wait(name)?.to_string())
        })
    }
}
