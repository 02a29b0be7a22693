//! A cgroup that outlives the process that makes it.
//!
//! ```text
//! /sys/fs/cgroup/
//! └── pods/                    made on the way, if it was not there
//!     ├── cgroup.subtree_control   memory pids: turned on level by level
//!     └── web/                 Lasting: reopened by its path, removed when somebody says so
//!         └── …                what the container makes below goes with it
//! ```
//!
//! A [`Cgroup`](crate::Cgroup) belongs to a process, which holds a lock and removes it at its end. This
//! one belongs to whoever keeps a record of it: here is no lock, and nothing happens on drop.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::unistd::{Pid, Uid};
use rustix::fs::Mode;

use crate::directory::Directory;
use crate::hierarchy::{Hierarchy, offers, refuse_others, usual_root};
use crate::parent::switch;

/// Everybody may look: the container's root, who is somebody else on the host, finds itself here.
const PUBLIC: Mode = Mode::RWXU
    .union(Mode::RGRP)
    .union(Mode::XGRP)
    .union(Mode::ROTH)
    .union(Mode::XOTH);

/// How long the killed may take to be gone: a dying process may still wait for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to begin again where others remove what we are about to use.
const TRIES: usize = 10;

/// One cgroup, made for one container, that stays until it is removed.
#[derive(Debug)]
pub struct Lasting {
    directory: Directory,
    made: usize,
}

impl Lasting {
    /// Makes the cgroup `path`, and those above it that are missing, with the controllers `needed`
    /// turned on all the way down, and those `wanted` as far as they can be. An absolute path counts from the root of the tree. A relative one counts
    /// from the root too if that is ours to write, and otherwise from what was delegated to us.
    ///
    /// A cgroup that is there already is taken if nobody is in it.
    ///
    /// `Ok(None)`: there is no place for a cgroup on this host or for this user, and no controller
    /// is needed.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing), where a controller needed is not to be had; somebody is in the
    /// cgroup, or in one above that would have to pass controllers on; the kernel refuses to make
    /// it. What was made until then is removed again.
    pub fn make(path: &Path, needed: &[&str], wanted: &[&str]) -> Result<Option<Self>> {
        let names = names(path)?;
        let mut tries = 0;
        loop {
            let base = match usual_root(path.is_absolute(), needed)? {
                None => Hierarchy::find()?.base(path.is_absolute(), needed)?,
                root => root,
            };
            let Some(directory) = base else {
                return Ok(None);
            };
            let mut cgroup = Self { directory, made: 0 };
            let Err(error) = cgroup.descend(&names, needed, wanted) else {
                return Ok(Some(cgroup));
            };
            if let Err(error) = cgroup.remove() {
                tracing::warn!("a cgroup stays behind: {error:#}");
            }
            // Somebody may just have removed one above, as empty as it was.
            let is_gone = is(&error, Errno::ENOENT) || is(&error, Errno::ENODEV);
            if !is_gone || tries == TRIES {
                return Err(error);
            }
            tries += 1;
        }
    }

    fn descend(&mut self, names: &[&OsStr], needed: &[&str], wanted: &[&str]) -> Result<()> {
        for name in names {
            enable(&self.directory, needed, wanted)?;
            let path = self.directory.path().join(name);
            let made = match self.directory.make(name, PUBLIC) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => 0,
                made => made
                    .map(|()| self.made + 1)
                    .with_context(|| format!("make the cgroup {}", path.display()))?,
            };
            self.directory = self
                .directory
                .child(name)
                .with_context(|| format!("open the cgroup {}", path.display()))?;
            self.made = made;
        }
        let path = self.path().display();
        let is_empty = || self.directory.wait_until("populated", 0, Duration::ZERO);
        ensure!(
            self.made > 0 || is_empty()?,
            "the cgroup {path} is in use: there are processes in it; see {path}/cgroup.procs"
        );
        Ok(())
    }

    /// Opens the cgroup again whose [path](Self::path) and number of directories [made](Self::made)
    /// were noted; `None` if it is gone.
    ///
    /// # Errors
    /// The path cannot be looked at.
    pub fn open(path: &Path, made: usize) -> Result<Option<Self>> {
        Ok(Directory::open(path)?.map(|directory| Self { directory, made }))
    }

    /// Opens the cgroup that [`make`](Self::make) would make, of which nothing was noted because
    /// whoever made it was killed; `None` if there is none. Those above it stay when it goes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let Some(base) = Hierarchy::find()?.base(path.is_absolute(), &[])? else {
            return Ok(None);
        };
        let names: PathBuf = names(path)?.into_iter().collect();
        Self::open(&base.path().join(names), 1)
    }

    /// Turns `controllers` on in all cgroups above it, where they are not.
    ///
    /// # Errors
    /// [`Missing`](crate::Missing), where a controller is not to be had; somebody is in a cgroup
    /// above that would have to pass it on; the kernel refuses.
    pub fn enable(&self, controllers: &[&str]) -> Result<()> {
        if offers(&self.directory, controllers, str::to_owned).is_ok() {
            return Ok(());
        }
        let Some(root) = Hierarchy::find()?.base(true, controllers)? else {
            return Ok(());
        };
        let mut above: Vec<&Path> = self.path().ancestors().skip(1).collect();
        above.retain(|path| path.starts_with(root.path()));
        for path in above.into_iter().rev() {
            let directory = Directory::open(path)?;
            let directory = directory.with_context(|| format!("open {}", path.display()))?;
            enable(&directory, controllers, &[])?;
        }
        Ok(())
    }

    /// Lets the user `owner` make cgroups in it and move its processes between them, but not change
    /// its limits (cgroups(7), "Cgroup delegation").
    ///
    /// # Errors
    /// The kernel refuses to change the owner.
    pub fn delegate(&self, owner: Uid) -> Result<()> {
        self.directory.delegate(owner)
    }

    /// Its directory in the cgroup2 tree, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// How many directories at the end of the path were made for it: those that [`Self::remove`]
    /// removes. None, if the cgroup was there already.
    #[must_use]
    pub fn made(&self) -> usize {
        self.made
    }

    /// Whether the kernel shows `file` here: a controller's only where that is turned on.
    #[must_use]
    pub fn has(&self, file: &str) -> bool {
        self.directory.has(file)
    }

    /// The whole of a control file; empty where the kernel shows no such file.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, file: &str) -> Result<String> {
        self.directory.read(file)
    }

    /// Writes `value` to a control file, as one command to the kernel; `why` is for `--explain`.
    ///
    /// # Errors
    /// There is no such file, or the kernel refuses the value.
    pub fn write(&self, file: &str, value: &str, why: &'static str) -> Result<()> {
        self.directory.write(file, value, why)
    }

    /// Moves the process `pid` in; what it forks from now on is born there.
    ///
    /// # Errors
    /// The process is gone, or the kernel refuses to move it.
    pub fn add(&self, pid: Pid) -> Result<()> {
        self.directory.add(pid)
    }

    /// The same, or to where the process `other` is below, if nobody may be in this one any more: a
    /// container may have made cgroups of its own, and given them controllers.
    ///
    /// # Errors
    /// A process is gone, or the kernel refuses to move `pid`.
    pub fn add_beside(&self, pid: Pid, other: Pid) -> Result<()> {
        match self.add(pid) {
            Err(error) if is(&error, Errno::EBUSY) => match self.home_of(other)? {
                Some(below) => below.add(pid),
                None => Err(error),
            },
            added => added,
        }
    }

    fn home_of(&self, process: Pid) -> Result<Option<Directory>> {
        let cgroups = format!("/proc/{process}/cgroup");
        let cgroups = fs::read_to_string(&cgroups).with_context(|| format!("read {cgroups}"))?;
        let hierarchy = Hierarchy::find()?;
        let (Some(path), Some(root)) = (
            cgroups.lines().find_map(|line| line.strip_prefix("0::/")),
            hierarchy.mount(),
        ) else {
            return Ok(None);
        };
        let path = root.join(path);
        match path.starts_with(self.path()) {
            true => Directory::open(&path),
            false => Ok(None),
        }
    }

    /// The processes in it and in the cgroups below it that our pid namespace shows, in no order.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        self.directory.processes()
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

    /// Whether it was told to freeze.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn is_frozen(&self) -> Result<bool> {
        Ok(self.read("cgroup.freeze")?.trim() == "1")
    }

    /// Kills every process in it, also those that are being forked just now (Linux 5.14).
    ///
    /// # Errors
    /// The kernel refuses the write.
    pub fn kill(&self) -> Result<()> {
        self.directory.kill()
    }

    /// Removes all cgroups below it, then itself, and those above it that were made with it, unless
    /// others have come to use them. Waits some seconds for the killed to be gone.
    ///
    /// # Errors
    /// There still are processes in it.
    pub fn remove(&self) -> Result<()> {
        let mut path = self.path();
        let deadline = Instant::now() + PATIENCE;
        for level in 0..self.made {
            let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
                break;
            };
            let Some(parent) = Directory::open(above)? else {
                break;
            };
            if level == 0 {
                self.remove_self(&parent, name, deadline)?;
            } else if parent.remove(name).is_err() {
                break;
            }
            path = above;
        }
        Ok(())
    }

    /// The kernel says EBUSY for as long as a process lives in here or in a cgroup below.
    fn remove_self(&self, parent: &Directory, name: &OsStr, deadline: Instant) -> Result<()> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(is_empty) = self.directory.wait_until("populated", 0, left) else {
                // ENODEV: somebody else was faster.
                return Ok(());
            };
            ensure!(
                is_empty,
                "there still are processes in {0}; see {0}/cgroup.procs",
                self.path().display()
            );
            let removed = self
                .directory
                .remove_below()
                .and_then(|()| Ok(parent.remove(name)?));
            match removed {
                Err(error) if is(&error, Errno::EBUSY) && !left.is_zero() => {
                    sleep(Duration::from_millis(5));
                }
                Err(error) if is(&error, Errno::ENOENT) => return Ok(()),
                removed => {
                    return removed
                        .with_context(|| format!("remove the cgroup {}", self.path().display()));
                }
            }
        }
    }
}

/// For clone3's `CLONE_INTO_CGROUP`.
impl AsFd for Lasting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Has `directory` pass controllers on, which it may do only while no process stands in it. The root
/// of the whole tree alone may have both (cgroups(7), "no internal processes"); it has no
/// `cgroup.type`.
fn enable(directory: &Directory, needed: &[&str], wanted: &[&str]) -> Result<()> {
    let on = directory.read("cgroup.subtree_control")?;
    let off = |names: &[&str]| names.iter().any(|name| !has_word(&on, name));
    if off(needed) {
        if directory.has("cgroup.type") {
            refuse_others(directory, needed, None)?;
        }
        switch(directory, '+', needed)?;
    }
    if off(wanted) {
        let offered = directory.read("cgroup.controllers")?;
        let mut wanted = wanted.to_vec();
        wanted.retain(|name| has_word(&offered, name));
        let is_free =
            !directory.has("cgroup.type") || refuse_others(directory, &wanted, None).is_ok();
        if is_free
            && !wanted.is_empty()
            && let Err(error) = switch(directory, '+', &wanted)
        {
            tracing::debug!("{error:#}");
        }
    }
    Ok(())
}

fn has_word(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|other| other == word)
}

fn is(error: &anyhow::Error, errno: Errno) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.and_then(io::Error::raw_os_error) == Some(errno as i32)
}

/// The components of `path`, none of which leads back up.
fn names(path: &Path) -> Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => bail!("{path:?} cannot be the path of a cgroup: it leads back up"),
        }
    }
    ensure!(
        !names.is_empty(),
        "{path:?} cannot be the path of a cgroup: it has no name"
    );
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::names;
    use std::path::Path;

    #[test]
    fn a_path_leads_down_and_has_a_name() {
        assert_eq!(names(Path::new("/a//./b/")).unwrap(), ["a", "b"]);
        assert_eq!(names(Path::new("a")).unwrap(), ["a"]);
        for path in ["", "/", ".", "..", "/a/../b", "a/.."] {
            assert!(names(Path::new(path)).is_err(), "{path:?}");
        }
    }
}
