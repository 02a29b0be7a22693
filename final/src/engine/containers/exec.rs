//! `docker exec`: one more process in a container that runs.
//!
//! The shim is its parent; its streams are ours. So what it writes takes no way around through the
//! shim, and who is killed while they watch takes nothing of the container along.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::Containers;
use super::ask::{PATIENCE, hear};
use crate::shim::Streams;
use crate::shim::protocol::{Connection, Exec, Frame, Heard, Request};
use crate::state::{Container, Status};

/// A process that was added to a container, as who added it sees it.
#[derive(Debug)]
pub struct Execed {
    /// Where its end is told.
    pub connection: Connection,
    /// Our ends of its streams, where we are attached.
    pub streams: Streams,
}

impl Containers {
    /// Runs a process in a container, and returns when its command has been executed. `attach`:
    /// whether we want its streams, and `stdin` whether it has the first of them.
    ///
    /// # Errors
    /// The container does not run, or the command cannot be: [`namespaces::exit_status`] tells
    /// which.
    pub fn exec(&self, what: &str, wish: Exec, attach: bool, stdin: bool) -> Result<Execed> {
        let container = self.running(what)?;
        let tty = wish.tty;
        let (ours, theirs) = match (attach, tty) {
            (_, true) => (Streams::default(), Vec::new()),
            (true, false) => Streams::pipes(stdin).map(|(ours, theirs)| (ours, theirs.into()))?,
            (false, false) => (Streams::default(), nowhere()?),
        };
        let Some(connection) = Connection::to(&self.places(&container))? else {
            bail!("container {} is not running", container.id);
        };
        let files: Vec<RawFd> = theirs.iter().map(AsRawFd::as_raw_fd).collect();
        connection.request(&Request::Exec(wish), &files)?;
        drop(theirs);
        let patience = Instant::now() + PATIENCE;
        let streams = match hear(&connection, &container, patience)? {
            Heard::Word(Frame::Done, mut files) => match (files.pop(), attach) {
                (Some(master), true) => Streams::of_terminal(master)?,
                _ => ours,
            },
            Heard::Word(Frame::Failed(status, sentence), _) => {
                return Err(namespaces::Failure { status, sentence }.into());
            }
            _ => bail!("container {} is not running", container.id),
        };
        Ok(Execed {
            connection,
            streams,
        })
    }

    fn running(&self, what: &str) -> Result<Container> {
        let container = self.find(what)?;
        let id = &container.id;
        match container.life.status {
            Status::Running => Ok(container),
            Status::Paused => bail!("Container {id} is paused, unpause the container before exec"),
            Status::Restarting => {
                bail!("Container {id} is restarting, wait until the container is running")
            }
            _ => bail!("container {id} is not running"),
        }
    }
}

fn nowhere() -> Result<Vec<OwnedFd>> {
    let null = || File::options().read(true).write(true).open("/dev/null");
    let all = (0..3)
        .map(|_| Ok(null()?.into()))
        .collect::<io::Result<_>>();
    all.context("open /dev/null")
}
