//! `docker logs`: what a container wrote, read from its log, which needs nobody's help.

mod entry;
mod files;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use super::Containers;
use crate::shim::protocol::{Connection, Heard};
use crate::state::journal;
pub use entry::Entry;
use files::{Files, Next};

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query {
    /// Those from then on.
    pub since: Option<Timestamp>,
    /// Those until then.
    pub until: Option<Timestamp>,
    /// So many at the end; `None`: all.
    pub tail: Option<u64>,
    /// Whether those are wanted that are still to come.
    pub follow: bool,
}

/// The log of one container, as far as it was read.
#[derive(Debug)]
pub struct Logs {
    files: Files,
    query: Query,
    /// What is to come, unless nothing is.
    coming: Option<Coming>,
    text: Vec<u8>,
    damaged: u64,
}

/// How one hears of more.
#[derive(Debug)]
struct Coming {
    /// Tells that the log has changed.
    changes: OwnedFd,
    /// Tells that the container has ended, or its shim is gone.
    shim: Connection,
}

impl Containers {
    /// Opens the log of a container.
    ///
    /// # Errors
    /// There is no such container, it keeps none, or it cannot be read.
    pub fn logs(&self, what: &str, query: Query) -> Result<Logs> {
        let container = self.find(what)?;
        ensure!(
            container.host.log_config.r#type != "none",
            "configured logging driver does not support reading"
        );
        let path = self.places(&container).log();
        let mut coming = None;
        if query.follow
            && container.life.status.needs_shim()
            && let Some(shim) = self.watch(&container)?
        {
            // Watched before it is read: nothing is missed in between.
            // Not the file: another will have its name when it is full.
            let changes = journal::watch(path.parent().unwrap_or(&path))?;
            coming = Some(Coming { changes, shim });
        }
        Ok(Logs {
            files: Files::open(&path, query.tail)?,
            query,
            coming,
            text: Vec::new(),
            damaged: 0,
        })
    }
}

impl Logs {
    /// Hands over what there is now.
    ///
    /// # Errors
    /// The log cannot be read, and what `each` fails with.
    pub fn read(&mut self, each: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
        loop {
            let line = match self.files.next()? {
                Next::Line(line) => line,
                Next::Damaged => {
                    self.damaged += 1;
                    continue;
                }
                Next::End(rest) => {
                    // Somebody who was killed wrote that; otherwise it is being written.
                    self.damaged += u64::from(rest != 0 && self.coming.is_none());
                    return Ok(());
                }
            };
            let Some(entry) = entry::parse(line, &mut self.text) else {
                self.damaged += 1;
                continue;
            };
            if self.query.since.is_some() || self.query.until.is_some() {
                let time = entry.time();
                if self.query.since > time {
                    continue;
                }
                if self.query.until.is_some_and(|until| time > Some(until)) {
                    self.coming = None;
                    return Ok(());
                }
            }
            each(&entry)?;
        }
    }

    /// Waits for more; `false`: there will be none.
    ///
    /// # Errors
    /// Nothing can be waited for.
    pub fn wait(&mut self) -> Result<bool> {
        let Some(coming) = &self.coming else {
            return Ok(false);
        };
        let Some(timeout) = journal::time_until(self.query.until) else {
            return Ok(false);
        };
        let mut polled = [coming.changes.as_fd(), coming.shim.as_fd()]
            .map(|file| PollFd::new(file, PollFlags::POLLIN));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for more of the log"),
        }
        if polled[0].any() == Some(true) {
            journal::heed(&coming.changes);
        }
        let over =
            polled[1].any() == Some(true) && !matches!(coming.shim.hear(), Ok(Heard::Nothing));
        if over {
            // What it wrote last is there.
            self.coming = None;
        }
        Ok(true)
    }

    /// How many lines were damaged, and left out.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}
