//! What one container adds to an image: its writable layer.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::digest::Digest;
use crate::image::{self, Image};
use crate::oci::{self, Descriptor, Document};
use crate::overlay::{Attributes, Overlay};
use crate::scratch::{self, Scratch, private_directory};
use crate::{Store, lock};

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
        let dir = place(store, id)?;
        make(&dir, id)?;
        let container = Self {
            _lock: lock(&dir, File::lock)?,
            store: store.to_owned(),
            lower: image.layers().to_vec(),
            attributes,
            dir,
        };
        fill(&container.dir, image.id())?;
        Ok(container)
    }

    /// Where the container's root appears once its overlay is mounted.
    pub fn root(&self) -> PathBuf {
        self.dir.join("merged")
    }

    /// What to mount, in the container's own mount namespace.
    pub fn overlay(&self) -> Overlay {
        overlay(&self.dir, self.lower.clone(), self.attributes)
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

impl Store {
    /// Makes a writable layer over an image's, for the container `id`. It lives as long as what is
    /// returned.
    ///
    /// # Errors
    /// There is one of that id, the id is no file name, or the image was removed meanwhile.
    pub fn container(&self, image: &Image, id: &str) -> Result<Container> {
        let _used = self.share()?;
        self.ensure_fit(image)?;
        Container::create(&self.dir, image, id, self.attributes)
    }

    /// The same for a container that stays when this process ends, until somebody
    /// [discards](Self::discard_container) it. The image stays with it.
    ///
    /// # Errors
    /// As those of [`container`](Self::container). Then there is nothing, or what the next sweep
    /// removes.
    pub fn keep_container(&self, image: &Image, id: &str) -> Result<Overlay> {
        // No sweep comes between while this is held.
        let _used = self.share()?;
        self.ensure_fit(image)?;
        let dir = place(&self.dir, id)?;
        make(&dir, id)?;
        fill(&dir, image.id())
            .and_then(|()| {
                File::create_new(dir.join(KEPT)).with_context(|| format!("keep {}", dir.display()))
            })
            .inspect_err(|_| drop(scratch::remove_tree(&dir)))?;
        Ok(overlay(&dir, image.layers().to_vec(), self.attributes))
    }

    /// What to mount for a container that was kept, whether its image still has a name or not.
    ///
    /// # Errors
    /// There is no such container, or its image was damaged or lost.
    pub fn kept_overlay(&self, id: &str) -> Result<Overlay> {
        let dir = place(&self.dir, id)?;
        let what = || format!("find the layers below the container {id}");
        let image = image_of(&dir).with_context(what)?;
        let document = self.document_of(&image).with_context(what)?;
        let lower = self.stack(&document.rootfs.diff_ids);
        image::ensure_layers(&lower).with_context(what)?;
        Ok(overlay(&dir, lower, self.attributes))
    }

    /// Removes a container that was kept, if it is still there. It is out of its place at once,
    /// though it takes a while to be gone. Where its files have several owners, only a process in
    /// its user namespace may.
    ///
    /// # Errors
    /// What the file system refuses; what is left then, a sweep removes.
    pub fn discard_container(&self, id: &str) -> Result<()> {
        let dir = place(&self.dir, id)?;
        let scratch = self.lease()?;
        match dir.symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            _ => scratch.discard(&dir),
        }
    }

    fn ensure_fit(&self, image: &Image) -> Result<()> {
        image::ensure_layers(&image.layers)?;
        let (its, ours) = (&image.document.architecture, oci::architecture());
        if !its.is_empty() && its != ours {
            tracing::warn!("the image is for {its}, and this machine is {ours}");
        }
        Ok(())
    }

    /// An image's config, by its id alone.
    fn document_of(&self, image: &Digest) -> Result<Document> {
        let path = self.blob_path(image);
        let size = path.metadata().map(|file| file.len());
        let size = size.with_context(|| format!("look at {}", path.display()))?;
        Document::parse(&self.read(&Descriptor::new(oci::CONFIG, *image, size))?)
    }

    /// What the containers that were kept need of their images, where these can be read.
    pub(crate) fn kept_needs(&self) -> Result<Vec<Digest>> {
        let mut needs = Vec::new();
        for dir in all(&self.dir)? {
            if is_kept(&dir)
                && let Ok(image) = image_of(&dir)
                && let Ok(document) = self.document_of(&image)
            {
                needs.push(image);
                needs.extend(document.rootfs.diff_ids);
            }
        }
        Ok(needs)
    }
}

/// The file that says of a container's directory that it is complete and stays, though nobody may
/// hold its lock.
const KEPT: &str = "kept";

fn place(store: &Path, id: &str) -> Result<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let valid = id.bytes().all(plain) && id.bytes().next().is_some_and(|byte| byte != b'.');
    ensure!(valid, "{id:?} is not a container's id");
    Ok(store.join("containers").join(id))
}

fn make(dir: &Path, id: &str) -> Result<()> {
    match private_directory(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("there is a container {id} already")
        }
        made => made.with_context(|| format!("make {}", dir.display())),
    }
}

fn fill(dir: &Path, image: &Digest) -> Result<()> {
    let made = std::fs::write(dir.join("image"), image.to_string())
        .and_then(|()| private_directory(&dir.join("work")))
        .and_then(|()| private_directory(&dir.join("merged")))
        .and_then(|()| scratch::open_directory(&dir.join("upper")));
    made.with_context(|| format!("make {}", dir.display()))
}

fn overlay(dir: &Path, lower: Vec<PathBuf>, attributes: Attributes) -> Overlay {
    Overlay {
        lower,
        upper: dir.join("upper"),
        work: dir.join("work"),
        target: dir.join("merged"),
        userxattr: attributes == Attributes::User,
    }
}

fn is_kept(dir: &Path) -> bool {
    dir.join(KEPT).exists()
}

/// The id of a container's image.
fn image_of(dir: &Path) -> Result<Digest> {
    let path = dir.join("image");
    let text = std::fs::read_to_string(&path);
    text.with_context(|| format!("read {}", path.display()))?
        .parse()
}

fn all(store: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(store.join("containers"))?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

/// Whether a directory is a container's: the whole of one, or no more than a beginning. What else lies
/// there somebody has put there.
fn is_ours(dir: &Path) -> bool {
    let is_dir = dir.symlink_metadata().is_ok_and(|found| found.is_dir());
    let has = |name| dir.join(name).symlink_metadata().is_ok();
    let is_empty = || std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    is_dir && (has("image") || has("upper") || is_empty())
}

fn is_alive(dir: &Path) -> bool {
    File::open(dir).is_ok_and(|dir| matches!(dir.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The containers that nobody keeps and whose process is gone: nobody holds their lock.
pub(crate) fn dead(store: &Path) -> Result<Vec<PathBuf>> {
    let mut dead = all(store)?;
    // Opening one tells of any other trouble when it is removed.
    dead.retain(|dir| !is_kept(dir) && is_ours(dir) && !is_alive(dir));
    Ok(dead)
}

/// Who needs an image.
pub(crate) enum User {
    /// A container that ends with a process.
    Living(String),
    /// One that was kept; whether it runs is not known here.
    Kept(String),
}

/// A container of an image, rather one that lives than one that was kept.
pub(crate) fn user_of(store: &Path, image: &Digest) -> Result<Option<User>> {
    let mut kept = None;
    for dir in all(store)? {
        if image_of(&dir).ok().as_ref() != Some(image) {
            continue;
        }
        let id = dir.file_name().unwrap_or_default();
        let id = id.to_string_lossy().into_owned();
        if is_kept(&dir) {
            kept = Some(User::Kept(id));
        } else if is_alive(&dir) {
            return Ok(Some(User::Living(id)));
        }
    }
    Ok(kept)
}
