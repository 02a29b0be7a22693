//! `docker exec`: one more process in a container that runs.
//!
//! The shim is its parent; its streams are ours. So what it writes takes no way around through the
//! shim, and who is killed while they watch takes nothing of the container along.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use super::Containers;
use super::ask::{PATIENCE, hear};
use crate::shim::protocol::{Connection, Exec, Frame, Heard, Request};
use crate::state::{Container, Status};

/// A process that was added to a container, as who added it sees it.
#[derive(Debug)]
pub struct Execed {
    /// Where its end is told.
    pub connection: Connection,
    /// Our ends of its streams.
    pub streams: Streams,
}

/// Our ends of a process's standard streams.
#[derive(Debug)]
pub enum Streams {
    /// Nobody is attached.
    None,
    /// The master of its terminal.
    Terminal(OwnedFd),
    /// Pipes.
    Pipes {
        /// To its standard input, where that is wanted.
        input: Option<OwnedFd>,
        /// From its standard output.
        output: OwnedFd,
        /// From its standard error.
        errors: OwnedFd,
    },
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
            (_, true) => (Streams::None, Vec::new()),
            (true, false) => pipes(stdin)?,
            (false, false) => (Streams::None, nowhere()?),
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
                (Some(master), true) => Streams::Terminal(master),
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

fn pipes(stdin: bool) -> Result<(Streams, Vec<OwnedFd>)> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).context("make a pipe");
    let ((output, their_output), (errors, their_errors)) = (pipe()?, pipe()?);
    let (their_input, input) = match stdin {
        true => pipe().map(|(theirs, ours)| (theirs, Some(ours)))?,
        false => (null()?, None),
    };
    let ours = Streams::Pipes {
        input,
        output,
        errors,
    };
    Ok((ours, vec![their_input, their_output, their_errors]))
}

fn nowhere() -> Result<Vec<OwnedFd>> {
    (0..3).map(|_| null()).collect()
}

fn null() -> Result<OwnedFd> {
    let null = File::options().read(true).write(true).open("/dev/null");
    null.map(OwnedFd::from).context("open /dev/null")
}
