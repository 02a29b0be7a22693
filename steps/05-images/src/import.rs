//! Images as they come: an OCI layout or what `docker save` writes, as a directory or a tar file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use serde::Deserialize;
use tar::EntryType;

use crate::archive::{BUFFER, Compression, Tar, decompress};
use crate::arrivals::Arrivals;
use crate::digest::Digest;
use crate::inside::{self, clean, shown, split};
use crate::name::ImageName;
use crate::oci::{
    CONFIG, Descriptor, DockerImage, Document, FULL_NAME, Index, LARGEST_DOCUMENT, MANIFEST,
    Manifest, Platform, REF_NAME,
};
use crate::scratch::Blob;

/// Files in an archive of images: a few for each layer of each image. A root file system that was
/// taken for one by mistake has more.
const MOST_FILES: usize = 20_000;
/// How deep one index may lie in another; two are in use.
const DEEPEST_INDEX: u32 = 4;
/// How many links in an archive may lead to one another; old `docker save` uses one.
const MOST_LINKS: usize = 8;

/// An image that was found, its blobs still where they were found.
pub(crate) struct Found {
    pub(crate) names: Vec<ImageName>,
    pub(crate) media_type: String,
    pub(crate) manifest: Blob,
    pub(crate) config: Blob,
    /// Each layer's blob and the digest of what it unpacks to, lowest first.
    pub(crate) layers: Vec<(Blob, Digest)>,
}

/// Something that images come from.
pub(crate) struct Import<'a> {
    source: Source,
    arrivals: &'a Arrivals<'a>,
    /// What an image is called that has only a tag: as the file or directory.
    repository: String,
    platform: &'a Platform,
}

enum Source {
    Layout(OwnedFd),
    /// The archive's files by name. It is read once, start to end, for it may be a pipe and its
    /// table of contents may come last.
    Archive(HashMap<Vec<u8>, Stored>),
}

enum Stored {
    File(Blob),
    /// Another name for a file, as old `docker save` writes for a layer that two images share.
    Link(Vec<u8>),
}

impl<'a> Import<'a> {
    /// Opens a layout's directory, or reads an archive.
    pub(crate) fn open(
        path: &Path,
        arrivals: &'a Arrivals<'a>,
        platform: &'a Platform,
    ) -> Result<Self> {
        let stem = path.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default().to_lowercase();
        let source = if path.is_dir() {
            Source::Layout(inside::directory(path)?)
        } else {
            let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
            // /dev/zero never ends, and at a terminal nobody types an archive.
            let kind = file.metadata()?.file_type();
            ensure!(
                !kind.is_char_device(),
                "{} is a device, and no archive",
                path.display()
            );
            Source::Archive(store(file, arrivals)?)
        };
        Ok(Self {
            source,
            arrivals,
            repository: stem,
            platform,
        })
    }

    /// The images in it that can run on this machine.
    pub(crate) fn images(&self) -> Result<Vec<Found>> {
        if let Some(layout) = self.document("oci-layout")? {
            check_layout(&layout)?;
            let index = self.document("index.json")?;
            return self.oci(&index.context("an OCI layout without an index.json")?);
        }
        match self.document("manifest.json")? {
            Some(list) => self.docker(&list),
            None => bail!(
                "there are no images: neither an OCI layout (oci-layout, index.json) nor what \
                 `docker save` writes (manifest.json)"
            ),
        }
    }

    fn oci(&self, index: &[u8]) -> Result<Vec<Found>> {
        let index = Index::listed(index).context("read index.json")?;
        // Each entry is an image, or another's variant: then those for this machine are meant.
        let ours = index.manifests.iter().filter(|descriptor| {
            let platform = descriptor.platform.as_ref();
            platform.is_none_or(|its| self.platform.runs(its))
        });
        let ours: Vec<_> = ours.collect();
        if ours.is_empty() {
            index.select(self.platform)?;
        }
        let mut found: Vec<Found> = Vec::new();
        for descriptor in ours {
            let name = self.name(descriptor);
            let manifest = self.variant(descriptor, 0)?;
            let known = |image: &&mut Found| image.manifest.digest == manifest.digest;
            match found.iter_mut().find(known) {
                Some(image) => image.names.extend(name),
                None => found.push(self.image(name.into_iter().collect(), &manifest)?),
            }
        }
        Ok(found)
    }

    /// The one manifest for this machine that a descriptor leads to.
    fn variant(&self, descriptor: &Descriptor, depth: u32) -> Result<Descriptor> {
        if !descriptor.is_index() {
            return Ok(descriptor.clone());
        }
        ensure!(depth < DEEPEST_INDEX, "an index in an index in an index …");
        let bytes = read_document(&self.blob(descriptor)?)?;
        let index = Index::parse(&bytes)
            .with_context(|| format!("read the index {}", descriptor.digest))?;
        let variant = index.select(self.platform)?;
        self.variant(variant, depth + 1)
    }

    fn image(&self, names: Vec<ImageName>, descriptor: &Descriptor) -> Result<Found> {
        let digest = descriptor.digest;
        let manifest = self.blob(descriptor)?;
        let parsed = Manifest::parse(&read_document(&manifest)?)
            .with_context(|| format!("read the manifest {digest}"))?;
        if let Some(own) = &parsed.media_type {
            ensure!(
                *own == descriptor.media_type,
                "the manifest {digest} is announced as {} and calls itself {own}",
                descriptor.media_type
            );
        }
        let config = self.blob(&parsed.config)?;
        let document = Document::parse(&read_document(&config)?)?;
        let layers = parsed.layers.iter().map(|layer| self.blob(layer));
        let layers = with_diff_ids(layers.collect::<Result<_>>()?, &document)?;
        Ok(Found {
            names,
            media_type: descriptor.media_type.clone(),
            manifest,
            config,
            layers,
        })
    }

    /// A descriptor's name: in full, or only a tag to the name of the whole.
    fn name(&self, descriptor: &Descriptor) -> Option<ImageName> {
        let annotations = &descriptor.annotations;
        let name = annotations.get(FULL_NAME).or(annotations.get(REF_NAME))?;
        match name.contains([':', '/']) {
            true => name.parse().ok(),
            false => format!("{}:{name}", self.repository).parse().ok(),
        }
    }

    fn docker(&self, list: &[u8]) -> Result<Vec<Found>> {
        let images: Vec<DockerImage> =
            serde_json::from_slice(list).context("read manifest.json")?;
        images
            .iter()
            .map(|image| self.docker_image(image))
            .collect()
    }

    /// Turns an entry of `manifest.json` into a manifest. The config stays, byte for byte, and so
    /// the image's id is the one that docker shows.
    fn docker_image(&self, image: &DockerImage) -> Result<Found> {
        let names = image.repo_tags.iter().map(|tag| tag.parse());
        let names = names.collect::<Result<_>>()?;
        let config = self.file(&image.config)?;
        let document = Document::parse(&read_document(&config)?)?;
        let layers = image.layers.iter().map(|layer| self.file(layer));
        let layers = with_diff_ids(layers.collect::<Result<_>>()?, &document)?;

        let descriptors = layers.iter().map(|(blob, _)| describe_layer(blob));
        let manifest = Manifest::new(
            Descriptor::new(CONFIG, config.digest, config.size),
            descriptors.collect::<Result<_>>()?,
        );
        let bytes = serde_json::to_vec(&manifest)?;
        Ok(Found {
            names,
            media_type: MANIFEST.to_owned(),
            manifest: self.arrivals.scratch.keep(&bytes)?,
            config,
            layers,
        })
    }

    /// A JSON file at the top; none where there is no such file.
    fn document(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let file = self.find(name)?;
        file.map(|file| read_document(&file)).transpose()
    }

    fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let Descriptor { digest, size, .. } = *descriptor;
        let blob = self.file(&format!("blobs/sha256/{}", digest.hex()))?;
        ensure!(
            blob.size == size,
            "the blob {digest} is said to be of {size} bytes, and is of {}",
            blob.size
        );
        Ok(blob)
    }

    /// A file by its name in the source. One that is named by its digest must have it.
    fn file(&self, name: &str) -> Result<Blob> {
        // task 05.2 {
        let blob = self
            .find(name)?
            .with_context(|| format!("there is no file {}", shown(name.as_bytes())))?;
        if let Some(stated) = stated_digest(name)? {
            ensure!(
                stated == blob.digest,
                "{} should have the digest {stated}, and has {}",
                shown(name.as_bytes()),
                blob.digest
            );
        }
        Ok(blob)
        // } todo!("task 05.2: refuse a blob that is not what it is called (book: 5.2)")
    }

    fn find(&self, name: &str) -> Result<Option<Blob>> {
        let dir = match &self.source {
            Source::Archive(files) => return Ok(lookup(files, name).cloned()),
            Source::Layout(dir) => dir,
        };
        match inside::open_file(dir, name.as_bytes()) {
            Err(error) if error.downcast_ref() == Some(&Errno::NOENT) => Ok(None),
            file => file
                .and_then(|file| {
                    let size = file.metadata()?.len();
                    let mut file = BufReader::with_capacity(BUFFER, file);
                    let kept = self.arrivals.keep(&mut file, name.as_bytes(), size);
                    kept.map(Some)
                })
                .with_context(|| format!("read {}", shown(name.as_bytes()))),
        }
    }
}

/// Writes each file of an archive down and hashes it.
fn store(file: impl Read, arrivals: &Arrivals<'_>) -> Result<HashMap<Vec<u8>, Stored>> {
    let (_, stream) = decompress(file)?;
    let mut tar = Tar::new(BufReader::with_capacity(BUFFER, stream));
    let mut files = HashMap::new();
    while let Some(member) = tar.next()? {
        let name = clean(&member.path)?;
        let stored = match member.kind {
            EntryType::Regular | EntryType::Continuous => {
                let mut arrival = arrivals.next(&name, member.size)?;
                tar.read(&member, |_, bytes| arrival.write(bytes))?;
                Stored::File(arrival.finish()?)
            }
            EntryType::Symlink => {
                let (dir, _) = split(&name);
                Stored::Link(clean(&[dir, &member.link].join(&b'/'))?)
            }
            EntryType::Link => Stored::Link(clean(&member.link)?),
            _ => continue,
        };
        files.insert(name, stored);
        ensure!(
            files.len() <= MOST_FILES,
            "more than {MOST_FILES} files: this is no archive of images"
        );
    }
    tar.drain()?;
    Ok(files)
}

fn lookup<'a>(files: &'a HashMap<Vec<u8>, Stored>, name: &str) -> Option<&'a Blob> {
    let mut name = clean(name.as_bytes()).ok()?;
    for _ in 0..MOST_LINKS {
        match files.get(&name)? {
            Stored::File(blob) => return Some(blob),
            Stored::Link(target) => name.clone_from(target),
        }
    }
    None
}

/// The digest that a file's name states: every blob's does, and that of a config in what old
/// `docker save` writes.
fn stated_digest(name: &str) -> Result<Option<Digest>> {
    match name.strip_prefix("blobs/sha256/") {
        Some(hex) => Digest::from_hex(hex).map(Some),
        None => Ok(name
            .strip_suffix(".json")
            .and_then(|hex| Digest::from_hex(hex).ok())),
    }
}

/// Reads a whole document, if it is of a document's size.
pub(crate) fn read_document(blob: &Blob) -> Result<Vec<u8>> {
    let Blob { digest, size, .. } = blob;
    ensure!(
        *size <= LARGEST_DOCUMENT,
        "{digest} has {size} bytes, too many for a JSON document"
    );
    std::fs::read(&blob.path).with_context(|| format!("read {}", blob.path.display()))
}

/// Only the config knows what the layers unpack to, by their order.
fn with_diff_ids(layers: Vec<Blob>, document: &Document) -> Result<Vec<(Blob, Digest)>> {
    let diff_ids = &document.rootfs.diff_ids;
    ensure!(
        layers.len() == diff_ids.len(),
        "the manifest has {} layers and the config {}",
        layers.len(),
        diff_ids.len()
    );
    Ok(layers.into_iter().zip(diff_ids.iter().copied()).collect())
}

pub(crate) fn describe_layer(blob: &Blob) -> Result<Descriptor> {
    let mut start = Vec::new();
    File::open(&blob.path)
        .and_then(|file| file.take(6).read_to_end(&mut start))
        .with_context(|| format!("read the blob {}", blob.digest))?;
    let kind = Compression::of(&start)?.media_type();
    Ok(Descriptor::new(kind, blob.digest, blob.size))
}

/// image-layout.md: the version is 1.0.0, and so far there is no other.
pub(crate) fn check_layout(bytes: &[u8]) -> Result<()> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = serde_json::from_slice(bytes).context("read oci-layout")?;
    let version = layout.image_layout_version;
    ensure!(
        version == "1.0.0",
        "an OCI layout of the unknown version {version:?}"
    );
    Ok(())
}
