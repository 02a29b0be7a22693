//! The right to change a container's state.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cli::Dirs;
use serde::Serialize;

use super::{Container, Missing, Places, is_at};

/// A container whose state nobody else changes. The lock is the open directory's, so that a process
/// that was forked off holds it too.
#[derive(Debug)]
pub struct Locked {
    /// Its state, to be changed and then [saved](Locked::save).
    pub container: Container,
    /// Its directories.
    pub places: Places,
    directory: File,
}

impl Locked {
    /// Waits until nobody else changes the container `id`, and reads its state.
    ///
    /// # Errors
    /// There is none, or its state is damaged.
    pub fn open(dirs: &Dirs, id: &str) -> Result<Locked> {
        let places = Places::of(dirs, id);
        let directory = lock(&places, id)?;
        let container = places.read()?;
        Ok(Locked {
            container,
            places,
            directory,
        })
    }

    /// The same, unless somebody else changes it just now.
    ///
    /// # Errors
    /// As [`Locked::open`].
    pub fn try_open(dirs: &Dirs, id: &str) -> Result<Option<Locked>> {
        let places = Places::of(dirs, id);
        let directory =
            File::open(&places.data).with_context(|| format!("open {}", places.data.display()))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error).context("lock a container"),
        }
        Ok(Some(Locked {
            container: places.read()?,
            places,
            directory,
        }))
    }

    /// The first state of a container whose directory has just been made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(dirs: &Dirs, container: Container) -> Result<Locked> {
        let places = Places::of(dirs, &container.id);
        let directory = lock(&places, &container.id)?;
        let locked = Locked {
            container,
            places,
            directory,
        };
        locked.save()?;
        Ok(locked)
    }

    /// Writes the state down.
    ///
    /// # Errors
    /// The disk is full, or what else it refuses; the state on it is as it was.
    pub fn save(&self) -> Result<()> {
        replace(&self.places.state(), &self.container)
    }

    /// The same lock, for who was forked off with it.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn try_clone(&self) -> Result<Locked> {
        Ok(Locked {
            container: self.container.clone(),
            places: self.places.clone(),
            directory: self
                .directory
                .try_clone()
                .context("dup a lock's descriptor")?,
        })
    }

    /// The descriptor that holds the lock.
    #[must_use]
    pub fn directory(&self) -> &File {
        &self.directory
    }

    /// Locks it again after [`Locked::unlock`], and reads what others made of it meanwhile.
    ///
    /// # Errors
    /// As [`Locked::open`].
    pub fn relock(&mut self) -> Result<()> {
        self.directory = lock(&self.places, &self.container.id)?;
        self.container = self.places.read()?;
        Ok(())
    }

    /// Reads what a child made of it that was forked off with the lock.
    ///
    /// # Errors
    /// The state is damaged.
    pub fn reread(&mut self) -> Result<()> {
        self.container = self.places.read()?;
        Ok(())
    }

    /// Lets others change it, whoever else holds a copy of the descriptor.
    ///
    /// # Errors
    /// What flock(2) refuses.
    pub fn unlock(&self) -> Result<()> {
        self.directory.unlock().context("unlock a container")
    }
}

/// Writes something down in a file of state: the whole of it, or nothing (rename(2)). Nobody else
/// does so meanwhile.
pub(super) fn replace(path: &Path, what: &impl Serialize) -> Result<()> {
    let new = path.with_extension("json.new");
    let text = serde_json::to_vec(what)?;
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_data()?;
        fs::rename(&new, path)
    });
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        anyhow!(error).context(format!("write {}", path.display()))
    })
}

fn lock(places: &Places, id: &str) -> Result<File> {
    let path = &places.data;
    loop {
        let directory = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Missing::container(id).into(),
            _ => anyhow!(error).context(format!("open {}", path.display())),
        })?;
        directory
            .lock()
            .with_context(|| format!("lock {}", path.display()))?;
        // While we waited it may have been removed.
        if is_at(&directory, path).with_context(|| format!("stat {}", path.display()))? {
            return Ok(directory);
        }
    }
}
