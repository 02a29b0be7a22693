//! Cgroups: how much a container may use.
//!
//! ```text
//! /sys/fs/cgroup/                     the tree of version 2; each directory is a cgroup
//! ├── cgroup.subtree_control          memory pids: what the next level may limit
//! └── minidocker/
//!     ├── cgroup.subtree_control      memory pids
//!     └── 4f1c…/                      Cgroup: made for one container
//!         ├── memory.max              67108864
//!         ├── pids.max                32
//!         └── cgroup.procs            the pids of the container
//! ```
//!
//! A container meets its cgroup in this order: [`Cgroup::create`] makes the directory and writes the
//! limits into it; the container's first process is born in it (clone3 with `CLONE_INTO_CGROUP`) or
//! is moved there by [`Cgroup::add`]; what it forks stays. When the `Cgroup` is dropped, whoever is
//! still in it is killed, and the directory is removed. If its owner is killed instead, the next
//! `create` does that (parent.rs).
//!
//! Man page: cgroups(7), and the kernel's Documentation/admin-guide/cgroup-v2.rst.

#![warn(missing_docs)]

mod directory;
mod hierarchy;
mod lasting;
mod limits;
mod parent;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::unistd::{Pid, getpid};

use directory::{Directory, field};
pub use hierarchy::{Hierarchy, Missing, Mode};
pub use lasting::Lasting;
pub use limits::{Cpus, Limits, parse_cpus, parse_memory};
use parent::Parent;

/// One cgroup, made for one container, and removed with everything in it on drop.
///
/// Its descriptor holds the lock that keeps the cgroup from being swept. The lock ends when the last
/// copy of the descriptor does: a child made by fork must exec or close it.
#[derive(Debug)]
pub struct Cgroup {
    directory: Directory,
    parent: Parent,
    name: String,
}

/// What a container has used so far; `None` where the kernel does not count it here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes in use now.
    pub memory: Option<u64>,
    /// The most bytes that were ever in use (Linux 5.19).
    pub memory_peak: Option<u64>,
    /// Processor time, of all processes that were ever in it.
    pub cpu: Option<Duration>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Cgroup {
    /// Makes the cgroup `name` below `parent`, with `limits` in force before anybody can join. Both
    /// are plain names; `parent` is the engine's own, and goes with the last cgroup in it.
    ///
    /// `Ok(None)`: there is no place for a cgroup on this host or for this user, and no limit was
    /// asked for that would need one.
    ///
    /// # Errors
    /// A limit was asked for that this host cannot enforce, or not for this user: which controller
    /// is missing, and how to get it.
    pub fn create(parent: &str, name: &str, limits: &Limits) -> Result<Option<Self>> {
        for name in [parent, name] {
            let plain =
                !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\n', '\0']);
            ensure!(plain, "{name:?} cannot be the name of a cgroup");
        }
        let controllers = limits.controllers();
        let Some(place) = Hierarchy::find()?.place(&controllers)? else {
            return Ok(None);
        };
        let mut parent = Parent::open(place, parent)?;
        parent.enable(&controllers, name)?;
        let directory = parent.make(name)?;
        parent.unlock()?;
        let cgroup = Self {
            directory,
            parent,
            name: name.to_owned(),
        };
        write_limits(&cgroup.directory, limits)?;
        Ok(Some(cgroup))
    }

    /// Whether [`Cgroup::create`] could put `limits` in force, and where: it looks, and makes
    /// nothing. `Ok(None)` as there.
    ///
    /// # Errors
    /// As there.
    pub fn possible(limits: &Limits) -> Result<Option<PathBuf>> {
        let controllers = limits.controllers();
        let Some(place) = Hierarchy::find()?.place(&controllers)? else {
            return Ok(None);
        };
        if !controllers.is_empty() && place.directory.has("cgroup.type") {
            // The process itself would step aside.
            place.refuse_others(&controllers, place.is_own.then(getpid))?;
        }
        Ok(Some(place.directory.path().to_owned()))
    }

    /// Its directory in the cgroup2 tree.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Moves the process `pid` in; what it forks from now on is born there.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses to move it.
    pub fn add(&self, pid: Pid) -> Result<()> {
        self.directory.add(pid)
    }

    /// How many processes the kernel has killed here because the memory limit was reached: 0 where
    /// memory is not limited.
    ///
    /// # Errors
    /// `memory.events` cannot be read.
    pub fn oom_kills(&self) -> Result<u64> {
        // task 03.4 {
        let events = self.directory.read("memory.events")?;
        Ok(field(&events, "oom_kill").unwrap_or(0))
        // } todo!("task 03.4: count whom the kernel killed for want of memory (book: 3.4)")
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// A file of the kernel's cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        let number =
            |file| -> Result<Option<u64>> { Ok(self.directory.read(file)?.trim().parse().ok()) };
        let cpu = self.directory.read("cpu.stat")?;
        Ok(Stats {
            memory: number("memory.current")?,
            memory_peak: number("memory.peak")?,
            cpu: field(&cpu, "usage_usec").map(Duration::from_micros),
            pids: number("pids.current")?,
        })
    }

    /// Stops every process in it, wherever it stands. On return none of them runs any more.
    ///
    /// # Errors
    /// After ten seconds some still run: a process that waits inside the kernel cannot be frozen.
    pub fn freeze(&self) -> Result<()> {
        self.directory.freeze()
    }

    /// Lets them run again.
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn thaw(&self) -> Result<()> {
        self.directory.thaw()
    }

    /// Kills every process in it, also those that are being forked just now (Linux 5.14).
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn kill(&self) -> Result<()> {
        self.directory.kill()
    }
}

/// What dead owners left of `parent`: their cgroups, and `parent` itself where nobody is left in it.
///
/// # Errors
/// The tree cannot be read.
pub fn leftovers(parent: &str) -> Result<Vec<PathBuf>> {
    let Some(place) = Hierarchy::find()?.place(&[])? else {
        return Ok(Vec::new());
    };
    let Ok(parent) = place.directory.child(parent) else {
        return Ok(Vec::new());
    };
    let dead = parent::dead(&parent)?.map(|(_, cgroup)| cgroup.path().to_owned());
    let mut left: Vec<_> = dead.collect();
    if left.len() == parent.subdirectories()?.count() {
        left.push(parent.path().to_owned());
    }
    Ok(left)
}

/// Removes the [`leftovers`], and ends the processes that are in them.
///
/// # Errors
/// The cgroup `parent` cannot be opened. What stays in it is only told about.
pub fn sweep(parent: &str) -> Result<()> {
    let Some(place) = Hierarchy::find()?.place(&[])? else {
        return Ok(());
    };
    if place.directory.child(parent).is_ok() {
        // It is swept when it is opened, and goes with the last that is in it.
        drop(Parent::open(place, parent)?);
    }
    Ok(())
}

/// For clone3's `CLONE_INTO_CGROUP`.
impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.parent.remove(&self.directory, &self.name) {
            tracing::warn!("a cgroup stays behind: {error:#}");
        }
    }
}

/// Each limit is a file that only an enabled controller shows: what cannot be enforced fails here.
fn write_limits(cgroup: &Directory, limits: &Limits) -> Result<()> {
    // task 03.3 {
    if let Some(bytes) = limits.memory {
        cgroup.write(
            "memory.max",
            &bytes.to_string(),
            "bytes; whoever needs more is killed",
        )?;
        forbid_swap(cgroup)?;
    }
    if let Some(cpus) = limits.cpus {
        cgroup.write(
            "cpu.max",
            &cpus.to_string(),
            "microseconds to run in each period of so many",
        )?;
    }
    if let Some(pids) = limits.pids {
        cgroup.write(
            "pids.max",
            &pids.to_string(),
            "fork and clone fail beyond, with EAGAIN",
        )?;
    }
    Ok(())
    // } todo!("task 03.3: write the limits into the cgroup (book: 3.3)")
}

/// `memory.max` alone would only push a container out to the disk.
fn forbid_swap(cgroup: &Directory) -> Result<()> {
    if cgroup.has("memory.swap.max") {
        return cgroup.write(
            "memory.swap.max",
            "0",
            "the limit is for memory, and swap is no way around it",
        );
    }
    // The first line is a heading.
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    ensure!(
        swaps.lines().count() < 2,
        "limit memory: {} has no memory.swap.max, so that the container would go on in swap; boot with the \
         kernel parameter swapaccount=1, or turn swap off: swapoff -a",
        cgroup.path().display(),
    );
    Ok(())
}
