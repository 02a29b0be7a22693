//! The container's cgroup: `linux.cgroupsPath` and `linux.resources` (step 3).
//!
//! It is the one thing of a container that both lasts and holds all of its processes, those too that
//! ran away from their parents: who is in it is the container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::Result;
use cgroups::Lasting;
use nix::unistd::{Pid, Uid};
use serde::{Deserialize, Serialize};

use super::resources::Resources;
use super::stats::Stats;

/// A container's cgroup. It stays until [`Group::remove`].
#[derive(Debug)]
pub(crate) struct Group(Lasting);

/// What the container's state keeps of its [`Group`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SavedGroup {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// How many directories at the end of the path were made for it, and go with it.
    made: usize,
}

/// Not needed for a limit, but `stats` have nothing to tell without them.
const COUNTED: [&str; 4] = ["cpu", "io", "memory", "pids"];

impl Group {
    /// Makes the cgroup `path` (`linux.cgroupsPath`; without one, a cgroup named for `id`) with
    /// `resources` in force. `None`: there is no place for one on this host or for this user, and
    /// nothing was asked for that would need it.
    pub(crate) fn create(
        path: Option<&Path>,
        id: &str,
        resources: &Resources,
    ) -> Result<Option<Self>> {
        let needed = resources.controllers();
        let made = Lasting::make(&place(path, id), &needed, &COUNTED);
        let group = match made {
            Err(error) if resources.is_empty() && is_refused(&error) => None,
            made => made.map_err(|error| resources.blame(error))?.map(Self),
        };
        let Some(group) = group else {
            resources.do_without()?;
            return Ok(None);
        };
        if let Err(error) = resources.apply(&group.0) {
            if let Err(error) = group.remove() {
                tracing::warn!("a cgroup stays behind: {error:#}");
            }
            return Err(error);
        }
        Ok(Some(group))
    }

    /// Opens it again; `None` if it is gone.
    pub(crate) fn open(saved: &SavedGroup) -> Result<Option<Self>> {
        Ok(Lasting::open(&saved.path, saved.made)?.map(Self))
    }

    /// Finds the one that [`Group::create`] may have made before it was killed.
    pub(crate) fn find(path: Option<&Path>, id: &str) -> Result<Option<Self>> {
        Ok(Lasting::find(&place(path, id))?.map(Self))
    }

    /// What [`Group::open`] needs.
    pub(crate) fn save(&self) -> SavedGroup {
        SavedGroup {
            path: self.0.path().to_owned(),
            made: self.0.made(),
        }
    }

    /// Moves the process `pid` in.
    pub(crate) fn add(&self, pid: Pid) -> Result<()> {
        self.0.add(pid)
    }

    /// Moves the process `pid` to where the container's `first` process may have gone, if not to the
    /// cgroup itself.
    pub(crate) fn join(&self, pid: Pid, first: Pid) -> Result<()> {
        self.0.add_beside(pid, first)
    }

    /// The processes in it and in what the container made below it, as our pid namespace has them.
    pub(crate) fn pids(&self) -> Result<Vec<Pid>> {
        self.0.processes()
    }

    /// Stops all of them.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.0.freeze()
    }

    /// Lets them go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        self.0.thaw()
    }

    /// Whether they are stopped.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        self.0.is_frozen()
    }

    /// SIGKILL for all of them at once, also for the frozen.
    pub(crate) fn kill(&self) -> Result<()> {
        self.0.kill()
    }

    /// Puts `resources` in force, and leaves alone what they do not speak of.
    pub(crate) fn update(&self, resources: &Resources) -> Result<()> {
        let controllers = resources.controllers();
        let enabled = self.0.enable(&controllers);
        enabled.map_err(|error| resources.blame(error))?;
        resources.apply(&self.0)
    }

    /// What it has used so far.
    pub(crate) fn stats(&self) -> Result<Stats> {
        Stats::of(&self.0)
    }

    /// How often the kernel has killed one of its processes for want of memory (`memory.events`).
    pub(crate) fn oom_kills(&self) -> Result<u64> {
        if !self.0.has("memory.events") {
            return Ok(0);
        }
        let events = self.0.read("memory.events")?;
        let kills = events
            .lines()
            .find_map(|line| line.strip_prefix("oom_kill "));
        Ok(kills.map_or(0, |kills| kills.trim().parse().unwrap_or(0)))
    }

    /// Lets `owner`, a user of the host's, make cgroups in it.
    pub(crate) fn give_to(&self, owner: Uid) -> Result<()> {
        self.0.delegate(owner)
    }

    /// Removes it and what the container made in it. Its processes must be dead; those that die just
    /// now are waited for.
    pub(crate) fn remove(&self) -> Result<()> {
        self.0.remove()
    }
}

/// For clone3's `CLONE_INTO_CGROUP`.
impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn place(path: Option<&Path>, id: &str) -> PathBuf {
    path.map_or_else(|| PathBuf::from(format!("minirunc-{id}")), Path::to_owned)
}

/// Whether it is this user who may not, so that a container without limits can do without.
fn is_refused(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    })
}
