//! The cgroup that holds the cgroups of all our containers.
//!
//! ```text
//! <place>/                 the root of the tree, or what was delegated to us
//! └── minidocker/          Parent: here while any of the below is
//!     ├── 4f1c…/           a container's: locked by its owner
//!     └── self-4f1c…/      where that owner went, if it stood in <place> itself
//! ```
//!
//! Owners come and go without knowing each other. Who makes or removes something in here holds the
//! lock on this directory meanwhile; who finds a lock free in here knows that its owner is dead.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Mode;

use crate::directory::Directory;
use crate::hierarchy::Place;

/// How long the killed may take to be gone: a dying process may still wait for a disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever can open a directory can hold a lock on it, and ours would be waited for.
const PRIVATE: Mode = Mode::RWXU;

#[derive(Debug)]
pub(crate) struct Parent {
    pub(crate) directory: Directory,
    place: Place,
    name: String,
    /// Where we went when we stood in the place ourselves, and the controllers turned on after that.
    aside: Option<(Directory, String, Vec<&'static str>)>,
}

impl Parent {
    /// Opens the cgroup `name` in `place`, made if need be, locked, and free of what dead owners
    /// left. Until the lock is ours, an owner on its way out may remove what we have just opened.
    pub(crate) fn open(place: Place, name: &str) -> Result<Self> {
        let path = place.directory.path().join(name);
        loop {
            let directory = match open_or_make(&place.directory, name) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                directory => {
                    directory.with_context(|| format!("make the cgroup {}", path.display()))?
                }
            };
            directory.lock()?;
            if directory.is(&place.directory, name)? {
                let parent = Self {
                    directory,
                    place,
                    name: name.to_owned(),
                    aside: None,
                };
                parent.sweep()?;
                return Ok(parent);
            }
        }
    }

    /// Makes the cgroup `name` in here and locks it, before anybody could sweep it.
    pub(crate) fn make(&self, name: &str) -> Result<Directory> {
        let path = self.directory.path().join(name);
        match self.directory.make(name, PRIVATE) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!(
                    "the cgroup {} belongs to a container that runs",
                    path.display()
                )
            }
            made => made.with_context(|| format!("make the cgroup {}", path.display()))?,
        }
        let cgroup = self
            .directory
            .child(name)
            .with_context(|| format!("open {}", path.display()))?;
        tracing::info!(call = %format_args!("flock({path:?}, LOCK_EX)"), "held while we live: nobody takes it for a leftover");
        cgroup.lock()?;
        Ok(cgroup)
    }

    /// Has the kernel show the files of `controllers` in each cgroup in here: each level passes them
    /// on to the next, and may do so only while no process stands in it. The root of the whole tree
    /// alone may have both (cgroups(7), "no internal processes"); it has no `cgroup.type`.
    pub(crate) fn enable(&mut self, controllers: &[&'static str], owner: &str) -> Result<()> {
        if controllers.is_empty() {
            return Ok(());
        }
        if self.place.directory.has("cgroup.type") {
            if self.place.is_own {
                self.step_aside(controllers, owner)?;
            }
            self.place.refuse_others(controllers, None)?;
        }
        for directory in [&self.place.directory, &self.directory] {
            switch(directory, '+', controllers)?;
        }
        Ok(())
    }

    /// Moves this process, and no other, out of the place.
    fn step_aside(&mut self, controllers: &[&'static str], owner: &str) -> Result<()> {
        let name = format!("self-{owner}");
        let refuge = self.make(&name)?;
        let (refuge, ..) = self.aside.insert((refuge, name, controllers.to_vec()));
        refuge.write(
            "cgroup.procs",
            "0",
            "a cgroup that limits its children has no process itself: we go",
        )
    }

    /// Lets other owners in again.
    pub(crate) fn unlock(&self) -> Result<()> {
        self.directory.unlock()
    }

    /// Ends what is in `cgroup`, called `name` in here, and removes it with all that is below it.
    pub(crate) fn remove(&self, cgroup: &Directory, name: impl AsRef<OsStr>) -> Result<()> {
        // task 03.5 {
        if !cgroup.wait_until("populated", 0, Duration::ZERO)? {
            cgroup.write(
                "cgroup.kill",
                "1",
                "SIGKILL for all that is still in it, at once",
            )?;
            let gone = cgroup.wait_until("populated", 0, PATIENCE)?;
            ensure!(
                gone,
                "processes in {} do not die; see its cgroup.procs",
                cgroup.path().display()
            );
        }
        cgroup.remove_below()?;
        self.directory
            .remove(name)
            .with_context(|| format!("remove the cgroup {}", cgroup.path().display()))
        // } todo!("task 03.5: empty a cgroup and remove it (book: 3.5)")
    }

    /// Removes the cgroups in here whose owners are dead.
    fn sweep(&self) -> Result<()> {
        for (name, cgroup) in dead(&self.directory)? {
            if let Err(error) = self.remove(&cgroup, &name) {
                tracing::warn!("a dead owner's cgroup stays: {error:#}");
            }
        }
        Ok(())
    }

    /// Goes back to where we came from. Only the last one can: to switch a controller off takes the
    /// limits from all cgroups in here.
    fn step_back(&self, refuge: &Directory, name: &str, controllers: &[&str]) -> Result<()> {
        if self.directory.subdirectories()?.any(|other| other != name) {
            return Ok(());
        }
        for directory in [&self.directory, &self.place.directory] {
            switch(directory, '-', controllers)?;
        }
        self.place
            .directory
            .write("cgroup.procs", "0", "back to the cgroup that we came from")?;
        self.remove(refuge, name)
    }
}

/// The cgroups in `parent` whose owners are dead: the kernel has dropped their locks. They are ours
/// for as long as each is held.
pub(crate) fn dead(parent: &Directory) -> Result<impl Iterator<Item = (OsString, Directory)>> {
    let dead = |name: OsString| {
        // What cannot be opened any more was removed by its living owner just now.
        let cgroup = parent.child(&name).ok()?;
        // A lock can also be free because a living owner has just removed the cgroup.
        let is_dead = cgroup.try_lock() && cgroup.is(parent, &name).is_ok_and(|there| there);
        is_dead.then_some((name, cgroup))
    };
    Ok(parent.subdirectories()?.filter_map(dead))
}

fn open_or_make(place: &Directory, name: &str) -> io::Result<Directory> {
    match place.child(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    match place.make(name, PRIVATE) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => place.child(name),
    }
}

/// Turns controllers on (`+`) or off (`-`) for the children of `directory`, all with one write.
pub(crate) fn switch(directory: &Directory, sign: char, controllers: &[&str]) -> Result<()> {
    // task 03.2 {
    let enabled = directory.read("cgroup.subtree_control")?;
    let is_on = |controller: &str| enabled.split_whitespace().any(|on| on == controller);
    let change: Vec<String> = controllers
        .iter()
        .filter(|controller| is_on(controller) != (sign == '+'))
        .map(|controller| format!("{sign}{controller}"))
        .collect();
    if change.is_empty() {
        return Ok(());
    }
    let why = match sign {
        '+' => "the next level gets the files to limit these",
        _ => "no process could go back here otherwise",
    };
    directory.write("cgroup.subtree_control", &change.join(" "), why)
    // } todo!("task 03.2: turn controllers on and off for the next level (book: 3.2)")
}

/// What is left behind when the last container goes: nothing. The sweep finds what our own cgroup's
/// removal left when it failed, and what was made but not yet locked. (Controllers that were turned
/// on in the root of the tree stay on: others may have come to rely on them.)
impl Drop for Parent {
    fn drop(&mut self) {
        let mut undo = || -> Result<()> {
            self.directory.lock()?;
            // Another owner was the last while we waited; what has the name now is not ours.
            if !self.directory.is(&self.place.directory, &self.name)? {
                return Ok(());
            }
            self.sweep()?;
            if let Some((refuge, name, controllers)) = self.aside.take() {
                self.step_back(&refuge, &name, &controllers)?;
            }
            match self.place.directory.remove(&self.name) {
                Err(error) if error.kind() != ErrorKind::ResourceBusy => {
                    Err(error).context("remove our cgroup")
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = undo() {
            tracing::warn!("a cgroup stays behind: {error:#}");
        }
    }
}
