//! What goes: names, images that have none left, and what nothing needs any more.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::container::{self, User};
use crate::digest::Digest;
use crate::image::name_of;
use crate::name::ImageName;
use crate::oci::Descriptor;
use crate::scratch::{Scratch, remove_tree};
use crate::{Image, Store, forget_repeats, lock};

/// What was removed. Shown, it is what `docker rmi` prints.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// The names that were taken away, and the registries' digests that went with the last of a
    /// repository.
    pub untagged: Vec<ImageName>,
    /// The image's id and the diff ids of its layers, where nothing needs them any more.
    pub deleted: Vec<Digest>,
    /// Bytes that are free now: in blobs and in the files of layers.
    pub freed: u64,
}

/// Blobs and layers that may go.
#[derive(Default)]
pub(crate) struct Unneeded {
    pub(crate) blobs: Vec<(PathBuf, Digest)>,
    pub(crate) layers: Vec<(PathBuf, Digest)>,
}

impl Store {
    /// Takes a name away, or with an id all names, and with the last one the image. Of an image that
    /// a kept container needs, `force` takes the names alone.
    ///
    /// # Errors
    /// A container uses the image; an id whose image has names in several repositories, unless
    /// `force` is there to mean all of them.
    pub fn remove(&self, what: &str, force: bool) -> Result<Removed> {
        let alone = lock(&self.dir.join("layers"), File::lock)?;
        let image = match self.find(what) {
            Ok(image) => image,
            Err(error) => return self.forget(what, alone)?.ok_or(error),
        };
        let untagged = names_to_remove(&image, what, force)?;
        let last = untagged.len() == image.names.len();
        let user = match last {
            true => container::user_of(&self.dir, image.id())?,
            false => None,
        };
        if let Some(user) = &user {
            refuse(&image, what, user, force)?;
        }
        let gone = last && user.is_none();
        let its = |entry: &Descriptor| image.manifests.iter().any(|it| it.digest == entry.digest);
        self.edit_index(|index| {
            index.manifests.retain_mut(|entry| match name_of(entry) {
                _ if gone => !its(entry),
                Some(name) if untagged.contains(&name) => {
                    entry.annotations.clear();
                    last
                }
                _ => true,
            });
            forget_repeats(index);
            Ok(())
        })?;
        let digests = digests_to_forget(&image, &untagged);
        let mut removed = Removed {
            untagged: [untagged, digests].concat(),
            ..Removed::default()
        };
        if gone {
            removed.deleted.push(*image.id());
            self.collect(alone, &mut removed)?;
        }
        Ok(removed)
    }

    /// Takes an image that cannot be read out of the index, by a name or its manifest's digest.
    fn forget(&self, what: &str, alone: File) -> Result<Option<Removed>> {
        let name = what.parse::<ImageName>().ok();
        let mut forgotten = None;
        self.edit_index(|index| {
            index.manifests.retain(|entry| {
                let named = name.is_some() && name_of(entry) == name;
                let meant = named || entry.digest.to_string() == what;
                let lost = meant && self.image(entry).is_err();
                if lost {
                    let removed: &mut Removed = forgotten.get_or_insert_default();
                    removed.untagged.extend(name_of(entry));
                    removed.deleted.push(entry.digest);
                }
                !lost
            });
            Ok(())
        })?;
        if let Some(removed) = &mut forgotten {
            self.collect(alone, removed)?;
        }
        Ok(forgotten)
    }

    /// Removes the images that `unwanted` says so of and that no container uses, and frees what
    /// nothing needs: blobs and layers of no image, and what is left of downloads that nobody goes
    /// on with.
    ///
    /// # Errors
    /// The store cannot be read, or what the file system refuses.
    pub fn prune(&self, unwanted: impl Fn(&Image) -> bool) -> Result<Removed> {
        let alone = lock(&self.dir.join("layers"), File::lock)?;
        let mut removed = Removed::default();
        let mut manifests = BTreeSet::new();
        for image in self.images()?.into_iter().filter(unwanted) {
            if container::user_of(&self.dir, image.id())?.is_none() {
                manifests.extend(image.manifests.iter().map(|manifest| manifest.digest));
                removed.deleted.push(*image.id());
                let digests = digests_to_forget(&image, &image.names);
                removed.untagged.extend(image.names);
                removed.untagged.extend(digests);
            }
        }
        self.edit_index(|index| {
            let wanted = |entry: &Descriptor| !manifests.contains(&entry.digest);
            index.manifests.retain(wanted);
            Ok(())
        })?;
        for (path, _lock) in self.given_up()? {
            removed.freed += remove_file(&path)?;
        }
        self.collect(alone, &mut removed)?;
        Ok(removed)
    }

    /// The downloads that nobody goes on with, and nobody can while the returned files are open.
    pub(crate) fn given_up(&self) -> Result<Vec<(PathBuf, File)>> {
        let found = digests_in(&self.dir.join("ingest"))?.into_iter();
        let locked = found.filter_map(|(path, _)| {
            let file = File::open(&path).ok()?;
            file.try_lock().ok()?;
            Some((path, file))
        });
        Ok(locked.collect())
    }

    /// Removes the blobs and layers that nothing needs.
    fn collect(&self, alone: File, removed: &mut Removed) -> Result<()> {
        // Whoever replaces the index may put a blob beside it first.
        let editing = lock(&self.dir.join("images"), File::lock)?;
        let Unneeded { blobs, layers } = self.unneeded(&alone)?;
        for (path, _) in blobs {
            removed.freed += remove_file(&path)?;
        }
        let scratch = Scratch::new(&self.dir.join("tmp"))?;
        for (path, digest) in layers {
            removed.freed += self.layer_size(&digest);
            scratch.take_away(&path)?;
            removed.deleted.push(digest);
        }
        drop(editing);
        // Large trees take a while, for which nobody needs to wait.
        drop(alone);
        drop(scratch);
        Ok(())
    }

    /// What neither an image in the index needs nor anybody who is at work. Nothing while there is
    /// an image that cannot be read: nobody knows what is its own.
    pub(crate) fn unneeded(&self, _alone: &File) -> Result<Unneeded> {
        let mut needed = BTreeSet::new();
        for entry in self.index()?.manifests {
            let Ok((manifest, document)) = self.documents(&entry) else {
                return Ok(Unneeded::default());
            };
            needed.extend([entry.digest, manifest.config.digest]);
            needed.extend(manifest.layers.iter().map(|layer| layer.digest));
            needed.extend(document.rootfs.diff_ids);
        }
        needed.extend(self.translations()?.iter().map(|entry| entry.digest));
        needed.extend(self.kept_needs()?);
        for lease in Scratch::all(&self.dir.join("tmp"), true)? {
            needed.extend(Scratch::needs(&lease)?);
        }
        let unneeded = |part: &str| {
            let mut found = digests_in(&self.dir.join(part))?;
            found.retain(|(_, digest)| !needed.contains(digest));
            anyhow::Ok(found)
        };
        Ok(Unneeded {
            blobs: unneeded("images/blobs/sha256")?,
            layers: unneeded("layers")?,
        })
    }

    /// What dead processes left.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        let alone = File::open(self.dir.join("layers"))?;
        if alone.try_lock().is_err() {
            return Ok(Vec::new());
        }
        let mut left = container::dead(&self.dir)?;
        left.extend(Scratch::all(&self.dir.join("tmp"), false)?);
        Ok(left)
    }

    /// Removes what dead processes left, unless somebody is about to begin.
    ///
    /// # Errors
    /// A dead container's files have several owners: then only a process in its user namespace may
    /// remove them, and has to call this.
    pub fn sweep(&self) -> Result<()> {
        let alone = File::open(self.dir.join("layers"))?;
        if alone.try_lock().is_err() {
            return Ok(());
        }
        for left in Scratch::all(&self.dir.join("tmp"), false)? {
            remove_tree(&left)?;
        }
        for dead in container::dead(&self.dir)? {
            Scratch::new(&self.dir.join("tmp"))?.discard(&dead)?;
        }
        Ok(())
    }
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let untagged = self.untagged.iter().map(|name| format!("Untagged: {name}"));
        let deleted = self
            .deleted
            .iter()
            .map(|digest| format!("Deleted: {digest}"));
        let lines: Vec<_> = untagged.chain(deleted).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A name stands for itself, and an id for all names of its image. Docker's rule against surprises:
/// not if they are in several repositories.
fn names_to_remove(image: &Image, what: &str, force: bool) -> Result<Vec<ImageName>> {
    let named = what.parse().ok().filter(|name| image.names.contains(name));
    if let Some(name) = named {
        return Ok(vec![name]);
    }
    // A digest that a registry gave to names of ours.
    if let Some(there) = image.repo_digests.iter().find(|it| it.to_string() == what) {
        let repository = there.repository();
        let named = image
            .names
            .iter()
            .filter(|name| name.repository() == repository);
        return Ok(named.cloned().collect());
    }
    let repositories: BTreeSet<_> = image.names.iter().map(ImageName::repository).collect();
    ensure!(
        force || repositories.len() <= 1,
        "conflict: unable to delete {} (must be forced) - image is referenced in multiple \
         repositories",
        image.short_id()
    );
    Ok(image.names.clone())
}

/// The digests by which registries know an image in repositories where it loses its last name.
fn digests_to_forget(image: &Image, untagged: &[ImageName]) -> Vec<ImageName> {
    let mut digests = image.repo_digests.clone();
    digests.retain(|there| {
        let here = image.names.iter();
        let mut here = here
            .filter(|it| it.repository() == there.repository())
            .peekable();
        here.peek().is_some() && here.all(|name| name != there && untagged.contains(name))
    });
    digests
}

/// Docker's words for who keeps an image from going.
fn refuse(image: &Image, what: &str, user: &User, force: bool) -> Result<()> {
    let id = image.short_id();
    let named = what.parse().is_ok_and(|name| image.names.contains(&name));
    match user {
        User::Living(user) => bail!(
            "conflict: unable to delete {id} (cannot be forced) - image is being used by running \
             container {user}"
        ),
        // There would be nothing to take from it.
        User::Kept(user) if force => ensure!(
            !image.names.is_empty(),
            "conflict: unable to delete {id} (cannot be forced) - image is being used by container \
             {user:.12}; remove that first"
        ),
        User::Kept(user) if named => bail!(
            "conflict: unable to remove repository reference {what:?} (must force) - container \
             {user:.12} is using its referenced image {id}"
        ),
        User::Kept(user) => bail!(
            "conflict: unable to delete {id} (must be forced) - image is being used by stopped \
             container {user:.12}"
        ),
    }
    Ok(())
}

/// The entries of a directory that are called by a digest.
pub(crate) fn digests_in(dir: &Path) -> Result<Vec<(PathBuf, Digest)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if let Some(Ok(digest)) = name.to_str().map(Digest::from_hex) {
            found.push((entry.path(), digest));
        }
    }
    Ok(found)
}

/// Removes a file, and says how many bytes it had.
fn remove_file(path: &Path) -> Result<u64> {
    let size = std::fs::symlink_metadata(path).map_or(0, |file| file.len());
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        removed => removed
            .map(|()| size)
            .with_context(|| format!("remove {}", path.display())),
    }
}
