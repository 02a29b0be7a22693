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
//!     image                        the image's id
//!     kept                         where it is, the container outlives the process that made it
//! DIR/ingest/HEX                 a blob that is on its way from a registry
//! DIR/tmp/                       everything else that is half-made
//! ```
//!
//! In the kernel there is one overlay mount per container, in its own mount namespace, so that it
//! goes away with the container. Layers are shared by all images and never change.
//!
//! A tag is a line in `index.json`; everything else is called by what it contains. So what is
//! half-done is invisible: blobs and layers are made elsewhere, put in place by rename, and only
//! then named by replacing `index.json`. Until then a *lease* keeps them, the list of what its
//! holder needs. Whoever adds to a lease or makes one holds the shared lock on `layers` in that
//! moment, and whoever removes something the exclusive one. All locks die with their process, and
//! what a dead one left is swept at the next opportunity.

#![warn(missing_docs)]

mod archive;
mod archiving;
mod arrivals;
mod changes;
mod check;
mod committing;
mod compare;
mod container;
mod digest;
mod image;
mod import;
mod inside;
mod intake;
mod invocation;
mod layer;
mod name;
mod oci;
mod overlay;
mod pack;
mod pipe;
mod removal;
mod scratch;
mod translation;
mod tree;
mod unpacking;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

pub use archive::{Compression, Member, Tar, decompress};
pub use arrivals::Loading;
pub use changes::Change;
pub use check::{Fetch, Finding, Lost};
pub use container::Container;
pub use digest::{Digest, Verified};
pub use image::Image;
pub use inside::{clean as clean_path, make_directory};
pub use intake::{Incoming, Intake, Mismatch};
pub use name::ImageName;
pub use oci::{
    CONFIG, Config, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, Document, History, INDEX, Index,
    LAYER, MANIFEST, Manifest, Platform, RootFs,
};
pub use overlay::Overlay;
pub use removal::Removed;
pub use scratch::remove_tree;
pub use tree::Packer;
pub use user::{User, lookup_group, lookup_user};

use archive::BUFFER;
use arrivals::Arrivals;
use image::{name_of, repo_digest_of};
use import::{Found, Import};
use overlay::Attributes;
use scratch::{Blob, Scratch, private_directory};
use unpacking::{Unpacked, Unpacking, for_each_piece};

/// What `oci-layout` says (OCI image-spec, image-layout.md).
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// All images of one user on this machine.
pub struct Store {
    dir: PathBuf,
    attributes: Attributes,
}

impl Store {
    /// Opens the store in `dir`, which is made where it is missing.
    ///
    /// # Errors
    /// `dir` cannot be written to, or holds a layout of another version.
    pub fn open(dir: &Path) -> Result<Self> {
        let store = Self::at(dir)?;
        let layout = store.dir.join("images/oci-layout");
        match std::fs::read(&layout) {
            Ok(bytes) => import::check_layout(&bytes)?,
            Err(_) => store.found(&layout)?,
        }
        Ok(store)
    }

    /// Makes the store's documents. That of the layout comes last: where it is, there is an index,
    /// or it was lost and with it who needs what.
    fn found(&self, layout: &Path) -> Result<()> {
        let dir = self.dir.join("images");
        let _alone = lock(&dir, File::lock)?;
        let index = dir.join("index.json");
        if !index.exists() {
            replace(&index, &serde_json::to_vec_pretty(&Index::empty())?)?;
        }
        replace(layout, LAYOUT)
    }

    /// A store whose documents nobody has looked at.
    fn at(dir: &Path) -> Result<Self> {
        let dir = &std::path::absolute(dir)?;
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        for part in [
            "images",
            "images/blobs",
            "images/blobs/sha256",
            "layers",
            "containers",
            "ingest",
            "tmp",
        ] {
            let part = dir.join(part);
            match private_directory(&part) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("make {}", part.display()))?,
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            attributes: Attributes::here(&inside::directory(&dir.join("tmp"))?),
        })
    }

    /// Takes in the images of an archive or a layout's directory that are for a platform; see the
    /// module `import` for what is understood. A `name` goes to the only image in it, instead of its
    /// own. What is returned has the names that it got now, of all that it may have.
    ///
    /// # Errors
    /// Anything that isn't as announced (digest, size, type, number of layers), anything that would
    /// leave its layer, a full disk. Then the store is as it was.
    pub fn load(
        &self,
        path: &Path,
        name: Option<&ImageName>,
        platform: &Platform,
        loading: Loading<'_>,
    ) -> Result<Vec<Image>> {
        let scratch = self.lease()?;
        let mut arrivals = Arrivals::new(&scratch, self.attributes);
        arrivals.loading = Some(loading);
        let mut found = Import::open(path, &arrivals, platform)
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
        self.install(&found, &arrivals)
            .with_context(|| format!("load {}", path.display()))
    }

    /// Makes an image of one layer from a directory of ours; its files will belong to root.
    ///
    /// # Errors
    /// A file that cannot be read, or is neither file, directory nor symlink.
    pub fn import_dir(&self, tree: &Path, name: &ImageName, config: Config) -> Result<Image> {
        let scratch = self.lease()?;
        let layer = pack::pack(tree, &scratch)
            .with_context(|| format!("make an image of {}", tree.display()))?;
        let diff_id = layer.digest;
        let image = pack::image_of(
            (layer, diff_id),
            Some(name),
            Document::new(config),
            &scratch,
        )?;
        self.install_one(image, &Arrivals::new(&scratch, self.attributes))
    }

    /// Makes an image of one layer from a tar archive, which may be compressed. The document gets
    /// to know of the layer here.
    ///
    /// # Errors
    /// It isn't an archive, anything in it would leave the layer, or the disk is full.
    pub fn import_tar(
        &self,
        tar: impl Read,
        name: Option<&ImageName>,
        document: Document,
    ) -> Result<Image> {
        let scratch = self.lease()?;
        let arrivals = Arrivals::new(&scratch, self.attributes);
        let layer = arrivals.keep(&mut BufReader::with_capacity(BUFFER, tar), b"", 0)?;
        let unpacked = self.unpack(&layer, &arrivals)?;
        let diff_id = unpacked.diff_id.unwrap_or(layer.digest);
        arrivals.give_back(layer.digest, unpacked);
        let image = pack::image_of((layer, diff_id), name, document, &scratch)?;
        self.install_one(image, &arrivals)
    }

    /// Gives an image one more name, and takes it from the image that had it. The name's registry
    /// may be known to have the image under a digest.
    ///
    /// # Errors
    /// The image was removed meanwhile, or the index cannot be replaced.
    pub fn tag(&self, image: &Image, name: &ImageName, there: Option<Digest>) -> Result<()> {
        let manifest = image
            .manifests
            .first()
            .context("an image without a manifest")?;
        self.edit_index(|index| {
            let known = |entry: &Descriptor| entry.digest == manifest.digest;
            ensure!(index.manifests.iter().any(known), "the image was removed");
            let there = there.or(image.repo_digest(name).copied());
            enter(index, manifest, std::slice::from_ref(name), there);
            Ok(())
        })
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
            match images.iter_mut().find(|known| known.id() == image.id()) {
                Some(known) => known.join(image),
                None => images.push(image),
            }
        }
        Ok(images)
    }

    /// The image of a name, an id, or the beginning of an id that no other has. A digest in a name
    /// may also be the one under which a registry has it.
    ///
    /// # Errors
    /// There is none ([`Missing`]), or there are several.
    pub fn find(&self, what: &str) -> Result<Image> {
        let images = self.images()?;
        if let Ok(name) = what.parse::<ImageName>()
            && let Some(image) = images.iter().find(|image| image.is_called(&name))
        {
            return Ok(image.clone());
        }
        let id = what.strip_prefix("sha256:").unwrap_or(what);
        let mut matching = images
            .iter()
            .filter(|image| image.id().hex().starts_with(id));
        match (matching.next(), matching.next()) {
            (Some(image), None) if !id.is_empty() => Ok(image.clone()),
            (Some(_), Some(_)) if !id.is_empty() => {
                bail!("several images have ids that begin with {id:?}; give more of it")
            }
            _ => Err(Missing(what.to_owned()).into()),
        }
    }

    /// The manifest that has a name.
    ///
    /// # Errors
    /// There is none.
    pub fn manifest_of(&self, name: &ImageName) -> Result<Descriptor> {
        let entries = self.index()?.manifests;
        let named = entries
            .into_iter()
            .find(|it| name_of(it).as_ref() == Some(name));
        named.with_context(|| format!("No such image: {name}"))
    }

    /// Opens a blob to read. Nobody has looked whether it is still what it is called.
    ///
    /// # Errors
    /// It isn't there.
    pub fn blob(&self, digest: &Digest) -> Result<File> {
        File::open(self.blob_path(digest)).with_context(|| format!("open the blob {digest}"))
    }

    /// Opens a blob to read, which fails at its end where the blob isn't what it is called.
    ///
    /// # Errors
    /// It isn't there.
    pub fn verified(&self, blob: &Descriptor) -> Result<Verified<File>> {
        let file = self.blob(&blob.digest)?;
        Ok(Verified::new(file, blob.digest, blob.size))
    }

    /// Opens a layer's tar stream, whatever its blob is compressed with. Reading fails at the end
    /// where the blob isn't what it is called.
    ///
    /// # Errors
    /// The blob isn't there, or compressed in a way that is not known here.
    pub fn tar(&self, layer: &Descriptor) -> Result<impl Read + use<>> {
        let stream = decompress(self.verified(layer)?);
        Ok(stream
            .with_context(|| format!("read the layer {}", layer.digest))?
            .1)
    }

    /// A layer's blob as an OCI manifest lists it: by what it is compressed with, whatever it was
    /// said to be.
    ///
    /// # Errors
    /// As those of [`tar`](Self::tar).
    pub fn oci_layer(&self, layer: &Descriptor) -> Result<Descriptor> {
        import::describe_layer(&Blob {
            path: self.blob_path(&layer.digest),
            digest: layer.digest,
            size: layer.size,
        })
    }

    /// Keeps others from removing anything, until the file is closed.
    fn share(&self) -> Result<File> {
        lock(&self.dir.join("layers"), File::lock_shared)
    }

    /// A scratch directory that keeps what its maker says it needs.
    fn lease(&self) -> Result<Scratch> {
        let _used = self.share()?;
        Scratch::new(&self.dir.join("tmp"))
    }

    fn install_one(&self, image: Found, arrivals: &Arrivals<'_>) -> Result<Image> {
        let images = self.install(&[image], arrivals)?;
        images.into_iter().next().context("the image is not there")
    }

    /// Unpacks what isn't yet, and puts everything in place: nothing before all is right.
    fn install(&self, found: &[Found], arrivals: &Arrivals<'_>) -> Result<Vec<Image>> {
        let used = self.share()?;
        for image in found {
            let (blobs, diff_ids): (Vec<_>, Vec<_>) = image.layers.iter().cloned().unzip();
            let blobs = blobs.iter().chain([&image.config, &image.manifest]);
            let needs: Vec<_> = blobs.map(|blob| blob.digest).chain(diff_ids).collect();
            arrivals.scratch.need(&needs)?;
        }
        drop(used);

        let mut unpacked = BTreeMap::new();
        let mut outcome = layer::Outcome::default();
        for (blob, diff_id) in found.iter().flat_map(|image| &image.layers) {
            if !self.layer(diff_id).exists() && !unpacked.contains_key(diff_id) {
                let layer = self
                    .unpack(blob, arrivals)
                    .and_then(|layer| layer.check(&blob.digest, diff_id))
                    .with_context(|| format!("unpack the layer {diff_id}"))?;
                outcome.add(&layer.outcome);
                unpacked.insert(*diff_id, layer.dir);
            }
        }
        outcome.warn();
        self.flush()?;

        for (diff_id, dir) in &unpacked {
            self.place_layer(dir, diff_id)?;
        }
        for image in found {
            let layers = image.layers.iter().map(|(blob, _)| blob);
            for blob in layers.chain([&image.config, &image.manifest]) {
                self.place_blob(blob, arrivals.scratch)?;
            }
        }
        self.edit_index(|index| {
            for image in found {
                let Blob { digest, size, .. } = image.manifest;
                let manifest = Descriptor::new(&image.media_type, digest, size);
                enter(index, &manifest, &image.names, None);
            }
            Ok(())
        })?;
        let ids: BTreeSet<_> = found.iter().map(|image| image.config.digest).collect();
        let given: BTreeSet<_> = found.iter().flat_map(|image| &image.names).collect();
        let mut images = self.images()?;
        images.retain(|image| ids.contains(image.id()));
        for image in &mut images {
            image.names.retain(|name| given.contains(name));
        }
        Ok(images)
    }

    /// What a blob unpacks to, if it was not unpacked as it came.
    fn unpack(&self, blob: &Blob, arrivals: &Arrivals<'_>) -> Result<Unpacked> {
        if let Some(unpacked) = arrivals.take(&blob.digest) {
            return unpacked;
        }
        let mut unpacking = Unpacking::begin(arrivals.scratch.path(), self.attributes)?;
        for_each_piece(&blob.path, |bytes| {
            unpacking.write(bytes);
            Ok(())
        })?;
        unpacking.finish(&|_| ())
    }

    /// One flush for thousands of files. Without it a power failure soon after could leave a layer
    /// in its place whose files are empty.
    fn flush(&self) -> Result<()> {
        let root = File::open(&self.dir)?;
        rustix::fs::syncfs(root.as_fd()).context("write everything to the disk (syncfs)")
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
            .and_then(|()| std::fs::rename(&link, self.blob_path(&blob.digest)))
            .with_context(|| format!("put the blob {} in place", blob.digest))
    }

    fn documents(&self, descriptor: &Descriptor) -> Result<(Manifest, Document)> {
        let manifest = Manifest::parse(&self.read(descriptor)?)?;
        let document = Document::parse(&self.read(&manifest.config)?)?;
        Ok((manifest, document))
    }

    fn image(&self, descriptor: &Descriptor) -> Result<Image> {
        let (manifest, document) = self.documents(descriptor)?;
        let diff_ids = &document.rootfs.diff_ids;
        let sizes = diff_ids.iter().map(|diff_id| self.layer_size(diff_id));
        Ok(Image {
            names: name_of(descriptor).into_iter().collect(),
            repo_digests: repo_digest_of(descriptor).into_iter().collect(),
            manifests: vec![descriptor.clone()],
            size: sizes.fold(0, u64::saturating_add),
            layers: self.stack(diff_ids),
            manifest,
            document,
        })
    }

    /// Bytes in the files of an unpacked layer.
    pub fn layer_size(&self, diff_id: &Digest) -> u64 {
        let size = std::fs::read_to_string(self.layer(diff_id).join("size")).ok();
        size.and_then(|size| size.parse().ok()).unwrap_or(0)
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

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("images/blobs/sha256").join(digest.hex())
    }

    /// Reads a document of the store, and sees that it is the one that was stored.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let Descriptor { digest, size, .. } = *descriptor;
        let path = self.blob_path(&digest);
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
        let bytes = std::fs::read(&path).map_err(anyhow::Error::from);
        bytes
            .and_then(|bytes| Index::listed(&bytes))
            .with_context(|| format!("read {}", path.display()))
    }

    /// Changes the index as one step, which others see before or after.
    fn edit_index(&self, edit: impl FnOnce(&mut Index) -> Result<()>) -> Result<()> {
        let dir = self.dir.join("images");
        let _editing = lock(&dir, File::lock)?;
        let mut index = self.index()?;
        edit(&mut index)?;
        self.translate(&mut index)?;
        replace(&dir.join("index.json"), &serde_json::to_vec_pretty(&index)?)
    }
}

/// No image is called so.
#[derive(Debug)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "No such image: {}", self.0)
    }
}

impl std::error::Error for Missing {}

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

/// Enters a manifest under names. An image that had such a name loses it, and stays without.
fn enter(index: &mut Index, manifest: &Descriptor, names: &[ImageName], there: Option<Digest>) {
    let entry = Descriptor::new(&manifest.media_type, manifest.digest, manifest.size);
    for old in &mut index.manifests {
        if name_of(old).is_some_and(|name| names.contains(&name)) {
            old.annotations.clear();
        }
    }
    if names.is_empty() {
        index.manifests.push(entry.clone());
    }
    for name in names {
        let mut entry = entry.clone().named(name);
        if let Some(digest) = there {
            let annotations = &mut entry.annotations;
            annotations.insert(oci::REPO_DIGEST.to_owned(), digest.to_string());
        }
        index.manifests.push(entry);
    }
    forget_repeats(index);
}

/// Without a name, once is enough for a manifest, and only where no name holds it.
fn forget_repeats(index: &mut Index) {
    let named = |entry: &Descriptor| name_of(entry).is_some();
    let held = index.manifests.iter().filter(|entry| named(entry));
    let mut held: BTreeSet<_> = held.map(|entry| entry.digest).collect();
    index
        .manifests
        .retain(|entry| named(entry) || held.insert(entry.digest));
}

#[cfg(test)]
mod tests;
