//! `/dev/shm` of another container, for one that shares its IPC namespace: POSIX shared memory is
//! made of files (shm_overview(7)), which a namespace alone does not share.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use namespaces::{Isolation, Joined, Signals};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::shim::protocol::{Connection, Frame, Heard};
use crate::state::Places;

use super::subpath::lay_beside;

/// Mounts what the process `pid` has at `/dev/shm` beside our container's root, and returns where.
pub(super) fn borrow(pid: i32, places: &Places) -> Result<PathBuf> {
    let place = places.data.join("shm");
    let tree = tree_of(pid).context("share /dev/shm with the other container")?;
    lay_beside(&place, &tree, "both containers see one shared memory")?;
    Ok(place)
}

/// Only in its own mount namespace a mount can be copied, so somebody goes there (open_tree(2)).
fn tree_of(pid: i32) -> Result<OwnedFd> {
    let process = Pid::from_raw(pid).context("0 is no process")?;
    let joined = [Joined {
        file: pidfd_open(process, PidfdFlags::empty())?,
        kinds: CloneFlags::CLONE_NEWNS,
    }];
    let isolation = Isolation {
        ids: None,
        joined: &joined,
        ..Isolation::users_only()?
    };
    let (ours, theirs) = Connection::pair()?;
    let signals = Signals::hold()?;
    let child = namespaces::spawn(&isolation, |_| {
        // The container's root could have put anything there; it would be what it has anyway.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let shm = openat(CWD, "/dev/shm", flags, Mode::empty()).context("open /dev/shm")?;
        let tree = rootfs::copy_tree(shm.as_fd(), false)?;
        theirs.send(&Frame::Done, &[tree.as_raw_fd()])?;
        Ok(0)
    })?;
    let status = child.release(&signals)?.wait(&signals)?;
    ensure!(status == 0, "interrupted");
    match ours.hear()? {
        Heard::Word(_, mut files) => files.pop().context("nothing came of it"),
        _ => anyhow::bail!("nothing came of it"),
    }
}
