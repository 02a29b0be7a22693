//! What a state file says, held against what is.
//!
//! A shim that is killed writes nothing down. Its lock goes with it, and so does every claim that
//! its container runs: the next command to look finds the lock free, ends what is left and writes
//! the truth.

use std::fs::{self, File};

use anyhow::{Context, Result};
use jiff::Timestamp;
use namespaces::as_root;

use super::Containers;
use crate::shim;
use crate::state::{Container, Life, Locked, Places, Status};

/// The status of a container whose shim was killed: as if by SIGKILL.
const KILLED: u8 = 137;

/// The status of one that a reboot ended, as docker has it.
const REBOOTED: u8 = 255;

impl Containers {
    /// The container `id` as it is; `None` where it has just been removed, or was never finished.
    pub(super) fn look(&self, id: &str) -> Result<Option<Container>> {
        let places = Places::of(&self.dirs, id);
        let container = match places.read() {
            Ok(container) => container,
            Err(_) if !places.data.exists() || self.is_half_made(&places)? => return Ok(None),
            Err(error) => return Ok(Some(damaged(id, &places, &format!("{error:#}")))),
        };
        if container.life.status == Status::Removing {
            return Ok(self.finish_removal(container));
        }
        if is_true(&container, &places)? {
            return Ok(Some(container));
        }
        let Ok(mut locked) = Locked::open(&self.dirs, id) else {
            return Ok(None);
        };
        self.settle(&mut locked)?;
        let gone = !places.data.exists();
        Ok(Some(locked.container).filter(|_| !gone))
    }

    /// Makes the state of a locked container true.
    pub(super) fn settle(&self, locked: &mut Locked) -> Result<()> {
        if is_true(&locked.container, &locked.places)? {
            return Ok(());
        }
        let rebooted = !locked.places.run.exists();
        let last_word = locked.places.kept_last_word();
        self.bury(locked)?;
        // One that was never started, or had ended, is what it was.
        if !locked.container.life.status.needs_shim() {
            return Ok(());
        }
        let life = &mut locked.container.life;
        match last_word {
            Some(told) => *life = told,
            None => {
                life.status = Status::Exited;
                life.pid = 0;
                life.exit_code = if rebooted { REBOOTED } else { KILLED };
                life.finished = Some(Timestamp::now());
                life.unplug();
            }
        }
        // It is the truth on a full disk, too.
        if let Err(error) = locked.save() {
            tracing::debug!("{error:#}");
            if let Err(error) = locked.places.keep_last_word(&locked.container.life) {
                tracing::debug!("{error:#}");
            }
        }
        if locked.container.host.auto_remove {
            self.discard(locked)?;
        }
        Ok(())
    }

    /// Removes a container whose removal somebody has begun, and died of or gave up, if that is
    /// possible now. While somebody is at it, it is as it is.
    fn finish_removal(&self, container: Container) -> Option<Container> {
        let locked = match Locked::try_open(&self.dirs, &container.id) {
            Ok(Some(locked)) => locked,
            Ok(None) => return Some(container),
            Err(_) => return None,
        };
        match self.bury(&locked).and_then(|()| self.discard(&locked)) {
            Ok(()) => None,
            Err(error) => {
                tracing::debug!("{error:#}");
                Some(container)
            }
        }
    }

    /// Ends what a killed shim left: processes, cgroup, link and lease.
    fn bury(&self, locked: &Locked) -> Result<()> {
        shim::end_runtime(&locked.container, &locked.places)?;
        shim::sweep_network(&self.dirs)?;
        locked.places.forget()
    }

    /// Removes a container whose lock we have, as the root of its files.
    pub(super) fn discard(&self, locked: &Locked) -> Result<()> {
        as_root(|| locked.try_clone()?.discard(&self.dirs))
    }

    /// Whether whoever was creating the container died before it had a state: nothing of a user's
    /// is in it then. It is removed.
    fn is_half_made(&self, places: &Places) -> Result<bool> {
        let upper = places.data.join("upper");
        let is_empty = || fs::read_dir(&upper).map_or(true, |mut entries| entries.next().is_none());
        if places.state().exists() || places.run.exists() || !is_empty() {
            return Ok(false);
        }
        // Whoever creates one has this lock, too.
        let creating = File::open(self.dirs.data.join("names")).context("open the names")?;
        if creating.try_lock().is_ok() && !places.state().exists() {
            let id = places
                .data
                .file_name()
                .unwrap_or_default()
                .to_string_lossy();
            as_root(|| images::Store::open(&self.dirs.data)?.discard_container(&id))?;
        }
        Ok(true)
    }
}

/// Whether what the state says of a shim is so. One that is about to start the container, or to
/// leave it, has not written that down yet; one that was killed then has left its directory.
pub(super) fn is_true(container: &Container, places: &Places) -> Result<bool> {
    if !container.life.status.needs_shim() && !places.run.exists() {
        return Ok(true);
    }
    shim::is_alive(places)
}

/// What can be said of a container whose state cannot be read.
pub(super) fn damaged(id: &str, places: &Places, error: &str) -> Container {
    let image = fs::read_to_string(places.data.join("image")).unwrap_or_default();
    let made = fs::metadata(&places.data).and_then(|found| found.modified());
    Container {
        version: 0,
        id: id.to_owned(),
        name: String::new(),
        created: made
            .ok()
            .and_then(|made| made.try_into().ok())
            .unwrap_or_default(),
        image,
        config: Default::default(),
        host: Default::default(),
        mounts: Vec::new(),
        life: Life {
            status: Status::Dead,
            error: error.to_owned(),
            ..Life::default()
        },
    }
}
