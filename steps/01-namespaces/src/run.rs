//! The story of step 1: a command in namespaces of its own.

use anyhow::Result;
use namespaces::{Command, ContainerId, Isolation, Signals};

use crate::Options;

/// The whole life of a container; returns the command's exit status.
pub fn run(options: &Options) -> Result<u8> {
    let id = ContainerId::random()?;
    let hostname = options.hostname.as_deref().unwrap_or(id.as_str());
    let mut isolation = Isolation::full()?;
    isolation.hostname = Some(hostname);
    let mut command = Command::new(&options.command, hostname);
    command.init = options.init;

    // From here on Ctrl-C waits until there is a container to pass it on to.
    let signals = Signals::hold()?;

    // Born with its namespaces, and held at the gate.
    let child = namespaces::spawn(&isolation, |inside| inside.exec(&command))?;

    // Open the gate, and stay until the end.
    child.release(&signals)?.wait(&signals)
}
