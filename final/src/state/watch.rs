//! Waiting for files to change.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::poll::PollTimeout;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

/// Tells that something was written in a directory, made there, or moved to it (inotify(7)).
#[derive(Debug)]
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn of(directory: &Path) -> Result<Watch> {
        let what = || format!("watch {}", directory.display());
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .context("inotify_init1; see /proc/sys/fs/inotify/max_user_instances")
            .with_context(what)?;
        let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, directory, changes)
            .context("inotify_add_watch")
            .with_context(what)?;
        Ok(Watch(watch))
    }

    /// Takes away all that was told: which file it was does not matter.
    pub(crate) fn heed(&self) {
        let mut told = [0_u8; 4096];
        while rustix::io::read(&self.0, &mut told).is_ok_and(|length| length > 0) {}
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How long there is to wait; `None`: the moment has passed. Who waited for so long looks again, for
/// clocks are set.
pub(crate) fn time_until(until: Option<Timestamp>) -> Option<PollTimeout> {
    let Some(until) = until else {
        return Some(PollTimeout::NONE);
    };
    match until.duration_since(Timestamp::now()).as_millis() {
        ..0 => None,
        left => Some(PollTimeout::try_from((left + 1).min(60_000)).unwrap_or(PollTimeout::MAX)),
    }
}
