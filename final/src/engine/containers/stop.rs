//! `docker stop`: what it does, in order.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Containers, kill};
use crate::shim::protocol::{Connection, Frame, Heard, Request};
use crate::state::journal::{self, Event};
use crate::state::{Container, Locked, Status};

/// How long a container has to end by itself unless somebody says otherwise, in seconds.
const PATIENCE: i64 = 10;

/// How a container is to be stopped; what is `None` is as the container says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stopping {
    /// The signal that asks it to.
    pub signal: Option<i32>,
    /// How many seconds it has for that; -1: as many as it needs.
    pub seconds: Option<i64>,
}

/// A container that was asked to end.
#[derive(Debug)]
pub struct Asked {
    container: Container,
    /// Where its end is told; `None`: it does not run.
    shim: Option<Connection>,
    /// How long it has for that; `None` is for ever.
    until: Option<Instant>,
}

impl Containers {
    /// Asks a container to end, and ends it if it does not. One that does not run is left as it is.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn stop(&self, what: &str, how: Stopping) -> Result<Container> {
        self.see_end(self.ask_to_end(what, how)?)
    }

    /// The first half of [`stop`](Self::stop). Of several containers all can be asked before it is
    /// waited for any.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn ask_to_end(&self, what: &str, how: Stopping) -> Result<Asked> {
        // Its policy must not start it again: that is written down before anything happens.
        let mut locked = self.lock(what)?;
        if !locked.container.life.status.needs_shim() {
            let container = locked.container;
            return Ok(Asked {
                container,
                shim: None,
                until: None,
            });
        }
        note_by_hand(&mut locked);
        let container = locked.container.clone();
        drop(locked);

        // One that waits to be started again has nothing to stop but the wait.
        if container.life.status == Status::Restarting {
            let _ = self.ask(&container, &Request::Cancel);
        }
        let shim = self.watch(&container)?;

        // The signal that its image or its user chose; a frozen process would not get it.
        if container.life.status == Status::Paused {
            let _ = self.ask(&container, &Request::Resume);
        }
        let signal = match how.signal {
            Some(signal) => signal,
            None => kill::stop_signal(&container)?,
        };
        let _ = self.ask(&container, &Request::Signal { signal, all: false });

        let seconds = how
            .seconds
            .or(container.config.stop_timeout)
            .unwrap_or(PATIENCE);
        let patience = u64::try_from(seconds).ok().map(Duration::from_secs);
        Ok(Asked {
            container,
            shim,
            until: patience.and_then(|patience| Instant::now().checked_add(patience)),
        })
    }

    /// The other half: time to end, and then the signal that nobody can refuse.
    ///
    /// # Errors
    /// It cannot be ended.
    fn see_end(&self, asked: Asked) -> Result<Container> {
        let Asked {
            container,
            shim,
            until,
        } = asked;
        if let Some(shim) = shim {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if !has_ended(&shim, left)? {
                self.kill_all(&container, &shim)?;
            }
            drop(shim);
            journal::tell(&self.dirs, &Event::of(&container, "stop"));
        }
        self.find(&container.id).or(Ok(container))
    }

    /// The same for several: their time passes for all at once, and `tell` hears of them in the
    /// order in which they were asked.
    pub fn see_ends(
        &self,
        asked: Vec<Result<Asked>>,
        mut tell: impl FnMut(usize, Result<Container>),
    ) {
        let (mut waiting, mut ended) = (Vec::new(), Vec::new());
        for (n, asked) in asked.into_iter().enumerate() {
            let failed = asked.map(|asked| waiting.push((n, asked))).err();
            ended.push(failed.map(Err));
        }
        let mut told = 0;
        loop {
            while let Some(end) = ended.get_mut(told).and_then(Option::take) {
                tell(told, end);
                told += 1;
            }
            if waiting.is_empty() {
                return;
            }
            let (n, asked) = waiting.remove(next_due(&waiting));
            ended[n] = Some(self.see_end(asked));
        }
    }

    /// Stops a container and starts it again.
    ///
    /// # Errors
    /// As [`Containers::stop`] and [`Containers::start`].
    pub fn restart(&self, what: &str, how: Stopping) -> Result<()> {
        let container = self.stop(what, how)?;
        self.start(&container.id, None)?;
        journal::tell(&self.dirs, &Event::of(&container, "restart"));
        Ok(())
    }

    /// SIGKILL for all processes of a container, and the wait for its end.
    pub(super) fn kill_all(&self, container: &Container, shim: &Connection) -> Result<()> {
        let (signal, all) = (libc::SIGKILL, true);
        let asked = self.ask(container, &Request::Signal { signal, all });
        // Who could not be asked may have ended in this moment.
        match asked {
            Err(_) if has_ended(shim, Some(Duration::ZERO))? => Ok(()),
            Err(error) => Err(error),
            Ok(()) => has_ended(shim, None).map(drop),
        }
    }

    /// A connection on which the container's end is told; `None`: it has no shim.
    pub(super) fn watch(&self, container: &Container) -> Result<Option<Connection>> {
        let Some(shim) = Connection::to(&self.places(container))? else {
            return Ok(None);
        };
        shim.request(&Request::Wait, &[])?;
        Ok(Some(shim))
    }
}

/// Writes down that somebody wants the container to end, which its policy does not go against. On a
/// full disk it ends all the same.
pub(super) fn note_by_hand(locked: &mut Locked) {
    locked.container.life.stopped_by_hand = true;
    if let Err(error) = locked.save() {
        tracing::debug!("{error:#}");
    }
}

/// Waits until one of them has ended, or has no more time for that; which?
fn next_due(waiting: &[(usize, Asked)]) -> usize {
    let shims = waiting.iter().map(|(_, asked)| asked.shim.as_ref());
    let Some(shims) = shims.collect::<Option<Vec<_>>>() else {
        // One that does not run.
        let stands = |(_, asked): &(usize, Asked)| asked.shim.is_none();
        return waiting.iter().position(stands).unwrap_or_default();
    };
    let ends = waiting.iter().enumerate();
    let first = ends
        .filter_map(|(at, (_, asked))| Some((asked.until?, at)))
        .min();
    let left = first.map(|(until, _)| until.saturating_duration_since(Instant::now()));
    let polled = shims
        .iter()
        .map(|shim| PollFd::new(shim.as_fd(), PollFlags::POLLIN));
    let mut polled: Vec<PollFd> = polled.collect();
    // Whatever keeps it from waiting, the next one is waited for by itself.
    let _ = poll(&mut polled, timeout(left));
    let ready = |polled: &PollFd| polled.any().unwrap_or_default();
    let ready = polled.iter().position(ready);
    ready.or(first.map(|(_, at)| at)).unwrap_or_default()
}

fn timeout(left: Option<Duration>) -> PollTimeout {
    match left {
        // One more, for what is less than a millisecond.
        Some(left) => PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX),
        None => PollTimeout::NONE,
    }
}

/// Waits for the end that a shim tells, so long and no longer; `None` is for ever.
fn has_ended(shim: &Connection, patience: Option<Duration>) -> Result<bool> {
    let until = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let mut polled = [PollFd::new(shim.as_fd(), PollFlags::POLLIN)];
        match poll(&mut polled, timeout(left)) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => continue,
            other => other.context("wait for the container's end")?,
        };
        match shim.hear()? {
            Heard::Word(Frame::Ended(_), _) | Heard::End => return Ok(true),
            _ => {}
        }
    }
}
