//! What is asked of a container's shim, and what it answers.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Containers;
use super::top::Process;
use crate::shim::protocol::{Connection, Frame, Heard, Request};
use crate::state::Container;

/// How long a shim that is stopped has until somebody lets it go on.
pub(in crate::engine) const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked at after that.
const PAUSE: Duration = Duration::from_secs(1);

impl Containers {
    /// Asks a container's shim for something that is done at once.
    pub(in crate::engine) fn ask(&self, container: &Container, request: &Request) -> Result<()> {
        let shim = self.begin_to_ask(container, request)?;
        answer_of(&shim, container, Instant::now() + PATIENCE)
    }

    /// The same; the [answer](answer_of) is heard later.
    pub(in crate::engine) fn begin_to_ask(
        &self,
        container: &Container,
        request: &Request,
    ) -> Result<Connection> {
        let Some(shim) = Connection::to(&self.places(container))? else {
            bail!("container {} is not running", container.name);
        };
        shim.request(request, &[])?;
        Ok(shim)
    }
}

/// What a container's shim answers.
///
/// # Errors
/// What it says; it is [stopped](hear).
pub(in crate::engine) fn answer_of(
    shim: &Connection,
    container: &Container,
    until: Instant,
) -> Result<()> {
    match hear(shim, container, until)? {
        Heard::Word(Frame::Done, _) => Ok(()),
        Heard::Word(Frame::Failed(_, sentence), _) => bail!("{sentence}"),
        _ => bail!("container {} is not running", container.name),
    }
}

/// The next that a container's shim says. One that is busy has the time that it needs.
///
/// # Errors
/// It is stopped, and was not let go on before `until`.
pub(super) fn hear(
    shim: &Connection,
    container: &Container,
    mut until: Instant,
) -> Result<Heard<Frame>> {
    while !is_readable(shim, until)? {
        let pid = shim.peer()?;
        ensure!(
            Process::read(pid).is_none_or(|shim| shim.state != 'T'),
            "the shim of container {} does not answer: it is stopped. `kill -CONT {pid}` lets it go \
             on, and do what it was asked for",
            container.name
        );
        until = Instant::now() + PAUSE;
    }
    shim.hear()
}

fn is_readable(shim: &Connection, until: Instant) -> Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    let mut polled = [PollFd::new(shim.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, PollTimeout::try_from(left.as_millis())?) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno).context("wait for the container's shim"),
    }
}
