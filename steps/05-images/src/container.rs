//! What one container adds to an image: its writable layer.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::digest::Digest;
use crate::overlay::{Attributes, Overlay};
use crate::scratch::{self, Scratch, private_directory};
use crate::{Image, lock};

/// A container's directory. It is locked for as long as this value lives, and removed with it.
///
/// A lock belongs to the open file: a forked child holds it too, until it executes the command.
#[derive(Debug)]
pub struct Container {
    store: PathBuf,
    dir: PathBuf,
    lower: Vec<PathBuf>,
    attributes: Attributes,
    _lock: File,
}

impl Container {
    pub(crate) fn create(
        store: &Path,
        image: &Image,
        id: &str,
        attributes: Attributes,
    ) -> Result<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let valid = id.bytes().all(plain) && id.bytes().next().is_some_and(|byte| byte != b'.');
        ensure!(valid, "{id:?} is not a container's id");
        let dir = store.join("containers").join(id);
        let what = || format!("make {}", dir.display());
        match private_directory(&dir) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("there is a container {id} already")
            }
            made => made.with_context(what)?,
        }
        let container = Self {
            _lock: lock(&dir, File::lock)?,
            store: store.to_owned(),
            lower: image.layers().to_vec(),
            attributes,
            dir: dir.clone(),
        };
        std::fs::write(dir.join("image"), image.id().to_string()).with_context(what)?;
        private_directory(&dir.join("work")).with_context(what)?;
        private_directory(&dir.join("merged")).with_context(what)?;
        scratch::open_directory(&dir.join("upper")).with_context(what)?;
        Ok(container)
    }

    /// Where the container's root appears once its overlay is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.join("merged")
    }

    /// What to mount, in the container's own mount namespace.
    pub fn overlay(&self) -> Overlay {
        Overlay {
            lower: self.lower.clone(),
            upper: self.dir.join("upper"),
            work: self.dir.join("work"),
            target: self.root(),
            userxattr: self.attributes == Attributes::User,
        }
    }

    /// Removes everything that the container wrote. Where its files have several owners, only a
    /// process in its user namespace may: call it there, before the value is dropped.
    ///
    /// # Errors
    /// What the file system refuses; the rest is gone by then.
    pub fn remove(&self) -> Result<()> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _used = lock(&self.store.join("layers"), File::lock_shared)?;
        Scratch::new(&self.store.join("tmp"))?.discard(&self.dir)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("{error:#}; a later command will try again");
        }
    }
}

/// The containers whose process is gone: nobody holds their lock.
pub(crate) fn dead(store: &Path) -> Result<Vec<PathBuf>> {
    let mut dead = Vec::new();
    for entry in std::fs::read_dir(store.join("containers"))? {
        let path = entry?.path();
        if File::open(&path)?.try_lock().is_ok() {
            dead.push(path);
        }
    }
    Ok(dead)
}

/// The id of a living container of an image.
pub(crate) fn user_of(store: &Path, image: &Digest) -> Result<Option<String>> {
    for entry in std::fs::read_dir(store.join("containers"))? {
        let path = entry?.path();
        let living = File::open(&path).is_ok_and(|dir| dir.try_lock().is_err());
        let its = std::fs::read_to_string(path.join("image")).unwrap_or_default();
        if living && its == image.to_string() {
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            return Ok(Some(id.into_owned()));
        }
    }
    Ok(None)
}
