//! Images: from an archive to the directory tree that a container wakes up in.
//!
//! ```text
//! DIR/images/                    an OCI image layout, which any OCI tool reads in place
//!     oci-layout  index.json       names → manifests
//!     blobs/sha256/HEX             manifest → config, layers (as they came, most often compressed)
//! DIR/layers/HEX/                one layer, unpacked, by its diff id: the digest of its tar stream
//!     diff/                        the tree, in overlayfs' form
//!     size                         how many bytes its files have
//! DIR/containers/ID/             what one container adds
//!     upper/ work/                 its writable layer
//!     merged/                      where it sees upper over all the image's diffs: its root
//! DIR/tmp/                       everything half-made
//! ```
//!
//! In the kernel there is one overlay mount per container, in its own mount namespace, so that it
//! goes away with the container. Layers are shared by all images and never change.
//!
//! A tag is a line in `index.json`; everything else is called by what it contains. So what is
//! half-done is invisible: blobs and layers are made under `tmp`, put in place by rename, and only
//! then named by replacing `index.json`. Whoever makes or uses something holds a shared lock, and
//! whoever removes something the exclusive one; a lock dies with its process, and what a dead one
//! left is swept at the next opportunity.

#![warn(missing_docs)]

mod archive;
mod container;
mod digest;
mod import;
mod inside;
mod invocation;
mod layer;
mod name;
mod oci;
mod overlay;
mod pack;
mod scratch;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde::Serialize;

pub use container::Container;
pub use digest::Digest;
pub use inside::make_directory;
pub use name::ImageName;
pub use oci::Config;
pub use overlay::Overlay;
pub use user::{User, lookup_user};

use archive::{BUFFER, decompress};
use digest::Hashed;
use import::{Found, Import};
use oci::{Descriptor, Document, Index, Manifest};
use overlay::Attributes;
use scratch::{Blob, Scratch, private_directory};

/// All images of one user on this machine.
pub struct Store {
    dir: PathBuf,
    attributes: Attributes,
}

/// An image in the store. Serialized, it is what `docker inspect` shows of one.
#[derive(Clone, Debug)]
pub struct Image {
    id: Digest,
    names: Vec<ImageName>,
    manifests: Vec<Digest>,
    size: u64,
    document: Document,
    layers: Vec<PathBuf>,
}

/// What was removed. Shown, it is what `docker rmi` prints.
#[derive(Clone, Debug, Default)]
pub struct Removed {
    /// The names that were taken away.
    pub untagged: Vec<ImageName>,
    /// The image's id and the diff ids of its layers, where nothing needs them any more.
    pub deleted: Vec<Digest>,
}

impl Store {
    /// Opens the store in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// `dir` cannot be written to, or holds a layout of another version.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = &std::path::absolute(dir)?;
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        for part in [
            "images",
            "images/blobs",
            "images/blobs/sha256",
            "layers",
            "containers",
            "tmp",
        ] {
            let part = dir.join(part);
            match private_directory(&part) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("make {}", part.display()))?,
            }
        }
        let store = Self {
            dir: dir.to_owned(),
            attributes: Attributes::here(&inside::directory(&dir.join("tmp"))?),
        };
        let layout = dir.join("images/oci-layout");
        match std::fs::read(&layout) {
            Ok(bytes) => import::check_layout(&bytes)?,
            Err(_) => store.edit_index(|_| {
                let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
                replace(&layout, version)
            })?,
        }
        Ok(store)
    }

    /// Takes in the images of an archive or a layout's directory; see the module `import` for what
    /// is understood. A `name` goes to the only image in it, instead of its own. What is returned has
    /// the names that it got now, of all that it may have.
    ///
    /// # Errors
    /// Anything that isn't as announced (digest, size, type, number of layers), anything that would
    /// leave its layer, a full disk. Then the store is as it was.
    pub fn load(&self, path: &Path, name: Option<&ImageName>) -> Result<Vec<Image>> {
        let _used = self.share()?;
        let scratch = Scratch::new(&self.dir.join("tmp"))?;
        let mut found = Import::open(path, &scratch)
            .and_then(|import| import.images())
            .with_context(|| format!("load {}", path.display()))?;
        if let Some(name) = name {
            let [only] = found.as_mut_slice() else {
                bail!(
                    "{} holds {} images, and one name is not enough for them",
                    path.display(),
                    found.len()
                );
            };
            only.names = vec![name.clone()];
        }
        self.install(&found, &scratch)
            .with_context(|| format!("load {}", path.display()))
    }

    /// Makes an image of one layer from a directory of ours; its files will belong to root.
    ///
    /// # Errors
    /// A file that cannot be read, or is neither file, directory nor symlink.
    pub fn import_dir(&self, tree: &Path, name: &ImageName, config: Config) -> Result<Image> {
        let _used = self.share()?;
        let scratch = Scratch::new(&self.dir.join("tmp"))?;
        let found = pack::pack(tree, name, config, &scratch)
            .with_context(|| format!("make an image of {}", tree.display()))?;
        let images = self.install(&[found], &scratch)?;
        images.into_iter().next().context("the image is not there")
    }

    /// All images that can be read, in the order in which they came; a note tells of the others, for
    /// one image's damage is no reason to refuse another.
    ///
    /// # Errors
    /// The index is missing or damaged.
    pub fn images(&self) -> Result<Vec<Image>> {
        let mut images: Vec<Image> = Vec::new();
        for descriptor in self.index()?.manifests {
            let image = match self.image(&descriptor) {
                Ok(image) => image,
                Err(error) => {
                    let digest = descriptor.digest;
                    let name = name_of(&descriptor).map_or(digest.to_string(), |it| it.to_string());
                    tracing::warn!(
                        "the image {name} cannot be read until it is loaded again: {error:#}"
                    );
                    continue;
                }
            };
            match images.iter_mut().find(|known| known.id == image.id) {
                Some(known) => {
                    known.names.extend(image.names);
                    known.manifests.extend(image.manifests);
                }
                None => images.push(image),
            }
        }
        Ok(images)
    }

    /// The image of a name, an id, or the beginning of an id that no other has.
    ///
    /// # Errors
    /// There is none, or there are several.
    pub fn find(&self, what: &str) -> Result<Image> {
        let images = self.images()?;
        if let Ok(name) = what.parse::<ImageName>()
            && let Some(image) = images.iter().find(|image| image.names.contains(&name))
        {
            return Ok(image.clone());
        }
        let id = what.strip_prefix("sha256:").unwrap_or(what);
        let mut matching = images.iter().filter(|image| image.id.hex().starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(image), None) if !id.is_empty() => Ok(image.clone()),
            (Some(_), Some(_)) if !id.is_empty() => {
                bail!("several images have ids that begin with {id:?}; give more of it")
            }
            _ => bail!("No such image: {what}"),
        }
    }

    /// Takes a name away, or with an id all names, and with the last one the image.
    ///
    /// # Errors
    /// A running container uses the image; an id whose image has names in several repositories.
    pub fn remove(&self, what: &str) -> Result<Removed> {
        let _alone = lock(&self.dir.join("layers"), File::lock)?;
        let image = match self.find(what) {
            Ok(image) => image,
            Err(error) => return self.forget(what)?.ok_or(error),
        };
        let untagged = names_to_remove(&image, what)?;
        let last = untagged.len() == image.names.len();
        if last && let Some(container) = container::user_of(&self.dir, &image.id)? {
            bail!(
                "conflict: unable to remove {what} - container {container} is using its image {}",
                image.short_id()
            );
        }
        self.edit_index(|index| {
            index.manifests.retain(|descriptor| match last {
                true => !image.manifests.contains(&descriptor.digest),
                false => name_of(descriptor).is_none_or(|name| !untagged.contains(&name)),
            });
            Ok(())
        })?;
        let mut deleted = Vec::new();
        if last {
            deleted.push(image.id);
            deleted.extend(self.collect()?);
        }
        Ok(Removed { untagged, deleted })
    }

    /// Takes an image that cannot be read out of the index, by a name or its manifest's digest.
    fn forget(&self, what: &str) -> Result<Option<Removed>> {
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
            removed.deleted.extend(self.collect()?);
        }
        Ok(forgotten)
    }

    /// Makes a writable layer over an image's, for the container `id`. It lives as long as what is
    /// returned.
    ///
    /// # Errors
    /// There is one of that id, the id is no file name, or the image was removed meanwhile.
    pub fn container(&self, image: &Image, id: &str) -> Result<Container> {
        let _used = self.share()?;
        for layer in &image.layers {
            let there = layer.is_dir();
            ensure!(
                there,
                "the layer {} is missing; load the image again",
                layer.display()
            );
        }
        let (its, ours) = (&image.document.architecture, oci::architecture());
        if !its.is_empty() && its != ours {
            tracing::warn!("the image is for {its}, and this machine is {ours}");
        }
        Container::create(&self.dir, image, id, self.attributes)
    }

    /// Keeps others from removing what this process makes or uses, until the file is closed.
    fn share(&self) -> Result<File> {
        lock(&self.dir.join("layers"), File::lock_shared)
    }

    /// What dead processes left; nothing while a living one is at work.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn leftovers(&self) -> Result<Vec<PathBuf>> {
        if File::open(self.dir.join("layers"))?.try_lock().is_err() {
            return Ok(Vec::new());
        }
        let mut left = container::dead(&self.dir)?;
        for half_made in std::fs::read_dir(self.dir.join("tmp"))? {
            left.push(half_made?.path());
        }
        Ok(left)
    }

    /// Removes what dead processes left, unless a living one is at work.
    ///
    /// # Errors
    /// A dead container's files have several owners: then only a process in its user namespace may
    /// remove them, and has to call this.
    pub fn sweep(&self) -> Result<()> {
        let alone = File::open(self.dir.join("layers"))?;
        if alone.try_lock().is_err() {
            return Ok(());
        }
        for left in std::fs::read_dir(self.dir.join("tmp"))? {
            scratch::remove_tree(&left?.path())?;
        }
        for dead in container::dead(&self.dir)? {
            Scratch::new(&self.dir.join("tmp"))?.discard(&dead)?;
        }
        Ok(())
    }

    /// Unpacks what isn't yet, and puts everything in place: nothing before all is right.
    fn install(&self, found: &[Found], scratch: &Scratch) -> Result<Vec<Image>> {
        let mut unpacked = BTreeMap::new();
        let mut outcome = layer::Outcome::default();
        for (blob, diff_id) in found.iter().flat_map(|image| &image.layers) {
            if !self.layer(diff_id).exists() && !unpacked.contains_key(diff_id) {
                let dir = self.unpack(blob, diff_id, scratch, &mut outcome)?;
                unpacked.insert(*diff_id, dir);
            }
        }
        outcome.warn();
        // One flush for thousands of files. Without it a power failure soon after could leave a
        // layer in its place whose files are empty.
        let root = File::open(&self.dir)?;
        rustix::fs::syncfs(root.as_fd()).context("write everything to the disk (syncfs)")?;

        for (diff_id, dir) in &unpacked {
            self.place_layer(dir, diff_id)?;
        }
        for image in found {
            let layers = image.layers.iter().map(|(blob, _)| blob);
            for blob in layers.chain([&image.config, &image.manifest]) {
                self.place_blob(blob, scratch)?;
            }
        }
        self.edit_index(|index| {
            found.iter().for_each(|image| enter(index, image));
            Ok(())
        })?;
        let ids: BTreeSet<_> = found.iter().map(|image| image.config.digest).collect();
        let given: BTreeSet<_> = found.iter().flat_map(|image| &image.names).collect();
        let mut images = self.images()?;
        images.retain(|image| ids.contains(&image.id));
        for image in &mut images {
            image.names.retain(|name| given.contains(name));
        }
        Ok(images)
    }

    /// Unpacks a layer's blob into a scratch directory laid out as `layers/HEX` is.
    fn unpack(
        &self,
        blob: &Blob,
        diff_id: &Digest,
        scratch: &Scratch,
        outcome: &mut layer::Outcome,
    ) -> Result<PathBuf> {
        let what = || format!("unpack the layer {diff_id}");
        let dir = scratch.path();
        let diff = dir.join("diff");
        private_directory(&dir).with_context(what)?;
        scratch::open_directory(&diff).with_context(what)?;

        let file = File::open(&blob.path).with_context(what)?;
        let (_, stream) = decompress(file).with_context(what)?;
        let mut stream = Hashed::new(stream);
        let buffered = BufReader::with_capacity(BUFFER, &mut stream);
        let this = layer::unpack(buffered, &diff, self.attributes).with_context(what)?;
        let digest = stream.finish();
        ensure!(
            digest == *diff_id,
            "the layer should have the diff id {diff_id}, and has {digest}"
        );
        std::fs::write(dir.join("size"), this.size.to_string()).with_context(what)?;
        outcome.add(&this);
        Ok(dir)
    }

    fn place_layer(&self, unpacked: &Path, diff_id: &Digest) -> Result<()> {
        match std::fs::rename(unpacked, self.layer(diff_id)) {
            // Another process was quicker, with the same.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            moved => moved.with_context(|| format!("put the layer {diff_id} in place")),
        }
    }

    /// Gives a blob its place, if need be that of a damaged one. A link is what is moved there, for
    /// two images may have the blob in common.
    fn place_blob(&self, blob: &Blob, scratch: &Scratch) -> Result<()> {
        let link = scratch.path();
        std::fs::hard_link(&blob.path, &link)
            .and_then(|()| std::fs::rename(&link, self.blob(&blob.digest)))
            .with_context(|| format!("put the blob {} in place", blob.digest))
    }

    /// Removes the blobs and layers that no image in the index needs, and names the layers. While
    /// there is an image that cannot be read nothing is removed: nobody knows what is its own.
    fn collect(&self) -> Result<Vec<Digest>> {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for descriptor in self.index()?.manifests {
            let Ok((manifest, document)) = self.documents(&descriptor) else {
                return Ok(Vec::new());
            };
            blobs.extend([descriptor.digest, manifest.config.digest]);
            blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
            layers.extend(document.rootfs.diff_ids);
        }
        for (path, digest) in digests_in(&self.dir.join("images/blobs/sha256"))? {
            if !blobs.contains(&digest) {
                std::fs::remove_file(&path)
                    .with_context(|| format!("remove {}", path.display()))?;
            }
        }
        let scratch = Scratch::new(&self.dir.join("tmp"))?;
        let mut removed = Vec::new();
        for (path, digest) in digests_in(&self.dir.join("layers"))? {
            if !layers.contains(&digest) {
                scratch.discard(&path)?;
                removed.push(digest);
            }
        }
        Ok(removed)
    }

    fn documents(&self, descriptor: &Descriptor) -> Result<(Manifest, Document)> {
        let manifest = Manifest::parse(&self.read(descriptor)?)?;
        let document = Document::parse(&self.read(&manifest.config)?)?;
        Ok((manifest, document))
    }

    fn image(&self, descriptor: &Descriptor) -> Result<Image> {
        let (manifest, document) = self.documents(descriptor)?;
        let diff_ids = &document.rootfs.diff_ids;
        let sizes = diff_ids.iter().map(|diff_id| {
            let size = std::fs::read_to_string(self.layer(diff_id).join("size")).ok();
            size.and_then(|size| size.parse::<u64>().ok()).unwrap_or(0)
        });
        Ok(Image {
            id: manifest.config.digest,
            names: name_of(descriptor).into_iter().collect(),
            manifests: vec![descriptor.digest],
            size: sizes.fold(0, u64::saturating_add),
            layers: self.stack(diff_ids),
            document,
        })
    }

    /// The directories to mount one over the other, lowest first.
    fn stack(&self, diff_ids: &[Digest]) -> Vec<PathBuf> {
        let mut layers = Vec::new();
        for diff_id in diff_ids.iter().rev() {
            let layer = self.layer(diff_id).join("diff");
            // overlayfs refuses a layer that it already has (ELOOP), and everything in the lower
            // one is hidden by its twin.
            if layers.contains(&layer) {
                continue;
            }
            // It joins the roots of all layers, whatever they are marked with.
            let covers = self.attributes.is_opaque(&layer);
            layers.push(layer);
            if covers {
                break;
            }
        }
        layers.reverse();
        layers
    }

    fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join("layers").join(diff_id.hex())
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("images/blobs/sha256").join(digest.hex())
    }

    /// Reads a document of the store, and sees that it is the one that was stored.
    fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let Descriptor { digest, size, .. } = *descriptor;
        let path = self.blob(&digest);
        let bytes = import::read_document(&Blob { path, digest, size })?;
        let intact = Digest::of(&bytes) == digest;
        ensure!(
            intact,
            "the blob {digest} was damaged; load the image again"
        );
        Ok(bytes)
    }

    fn index(&self) -> Result<Index> {
        let path = self.dir.join("images/index.json");
        match std::fs::read(&path) {
            Ok(bytes) => Index::parse(&bytes).with_context(|| format!("read {}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Index::empty()),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    /// Changes the index as one step, which others see before or after.
    fn edit_index(&self, edit: impl FnOnce(&mut Index) -> Result<()>) -> Result<()> {
        let dir = self.dir.join("images");
        let _editing = lock(&dir, File::lock)?;
        let mut index = self.index()?;
        edit(&mut index)?;
        replace(&dir.join("index.json"), &serde_json::to_vec_pretty(&index)?)
    }
}

impl Image {
    /// The digest of its config, by which docker knows it.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The first twelve digits of the id, as lists show it.
    pub fn short_id(&self) -> String {
        self.id.hex().chars().take(12).collect()
    }

    /// What it is called; nothing where another image took its last name.
    pub fn names(&self) -> &[ImageName] {
        &self.names
    }

    /// When it was made, if it says so.
    pub fn created(&self) -> Option<Timestamp> {
        self.document.created.as_ref()?.parse().ok()
    }

    /// Bytes in the files of its layers.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The directories to stack, lowest first.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// How a container of it is to run.
    pub fn config(&self) -> &Config {
        &self.document.config
    }
}

impl Serialize for Image {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Document {
            created,
            architecture,
            os,
            config,
            rootfs,
            ..
        } = &self.document;
        let shown = serde_json::json!({
            "Id": self.id,
            "RepoTags": self.names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "Created": created,
            "Architecture": architecture,
            "Os": os,
            "Size": self.size,
            "Config": config,
            "RootFS": { "Type": rootfs.kind, "Layers": rootfs.diff_ids },
        });
        shown.serialize(serializer)
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

/// Takes flock(2) on a directory: the kernel gives it back however the process ends.
fn lock(dir: &Path, how: impl Fn(&File) -> std::io::Result<()>) -> Result<File> {
    let file = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    how(&file).with_context(|| format!("lock {}", dir.display()))?;
    Ok(file)
}

/// Replaces a file as one step, also if the power fails.
fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

/// The name under which an entry of the index stands.
fn name_of(descriptor: &Descriptor) -> Option<ImageName> {
    let annotations = &descriptor.annotations;
    let name = annotations
        .get(oci::FULL_NAME)
        .or(annotations.get(oci::REF_NAME))?;
    name.parse().ok()
}

/// A name stands for itself, and an id for all names of its image. Docker's rule against surprises:
/// not if they are in several repositories.
fn names_to_remove(image: &Image, what: &str) -> Result<Vec<ImageName>> {
    let named = what.parse().ok().filter(|name| image.names.contains(name));
    if let Some(name) = named {
        return Ok(vec![name]);
    }
    let repositories: BTreeSet<_> = image.names.iter().map(ImageName::repository).collect();
    ensure!(
        repositories.len() <= 1,
        "conflict: unable to delete {} - image is referenced in multiple repositories; \
         remove its names one by one",
        image.short_id()
    );
    Ok(image.names.clone())
}

/// Enters an image under its names. One that had such a name loses it, and stays without.
fn enter(index: &mut Index, image: &Found) {
    let digest = image.manifest.digest;
    let entry = Descriptor::new(&image.media_type, digest, image.manifest.size);
    for old in &mut index.manifests {
        if name_of(old).is_some_and(|name| image.names.contains(&name)) {
            old.annotations.clear();
        }
    }
    if image.names.is_empty() {
        index.manifests.push(entry.clone());
    }
    for name in &image.names {
        let mut entry = entry.clone();
        entry
            .annotations
            .insert(oci::REF_NAME.to_owned(), name.to_string());
        entry
            .annotations
            .insert(oci::FULL_NAME.to_owned(), name.full());
        index.manifests.push(entry);
    }
    // Without a name, once is enough, and only where no name holds it.
    let mut held: BTreeSet<_> = index
        .manifests
        .iter()
        .filter(|entry| name_of(entry).is_some())
        .map(|entry| entry.digest)
        .collect();
    index
        .manifests
        .retain(|entry| name_of(entry).is_some() || held.insert(entry.digest));
}

/// The entries of a directory that are called by a digest.
fn digests_in(dir: &Path) -> Result<Vec<(PathBuf, Digest)>> {
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

#[cfg(test)]
mod tests;
