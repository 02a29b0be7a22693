//! `save`: images in one archive, for docker, podman, skopeo and whoever else.
//!
//! ```text
//! blobs/sha256/HEX   manifests, configs and layers, most of them as they lie in the store
//! index.json         OCI's table of contents: manifests and their names
//! manifest.json      docker's, if it is to be docker's: configs, names, layers
//! oci-layout
//! ```
//!
//! Everything in it stands in the order of its name, belongs to nobody in particular and is of no
//! time: the same images give the same bytes. The tables come last, so that an archive which had
//! to be given up is none.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use images::{
    CONFIG, Descriptor, Digest, Document, Image, ImageName, Index, LAYER, MANIFEST, Manifest,
    Store, Verified,
};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use super::Images;

/// What an archive is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `docker load`, and all that can read an OCI layout too.
    #[default]
    DockerArchive,
    /// An OCI layout.
    Oci,
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "docker" | "docker-archive" => Ok(Self::DockerArchive),
            "oci" | "oci-archive" => Ok(Self::Oci),
            _ => bail!("{text:?} is no format of archives; there are docker-archive and oci"),
        }
    }
}

impl Images {
    /// Writes images to a file, or to standard output. A name stands for itself, one without a tag
    /// for all tags of its repository, and an id for an image without a name.
    ///
    /// # Errors
    /// There is no such image, a blob of it is missing or damaged, or the file cannot be written:
    /// then it is as it was. Standard output is a terminal.
    pub fn save(&self, names: &[String], format: Format, output: Option<&Path>) -> Result<()> {
        if output.is_none() {
            let terminal = io::stdout().is_terminal();
            ensure!(
                !terminal,
                "cowardly refusing to save to a terminal. Use the -o flag or redirect"
            );
        }
        let lease = self.store.intake()?;
        let mut archive = Archive::new(&self.store, format);
        for (manifest, names) in self.chosen(names)? {
            archive.add(&manifest, &names)?;
        }
        let needed: Vec<_> = archive.blobs.keys().copied().collect();
        lease.need(&needed)?;
        match output {
            Some(path) => replace(path, |file| archive.write(file))
                .with_context(|| format!("save to {}", path.display())),
            None => archive.write(io::stdout().lock()),
        }
    }

    /// The manifests that are meant, each with the names to save it under.
    fn chosen(&self, names: &[String]) -> Result<Vec<(Descriptor, BTreeSet<ImageName>)>> {
        let mut chosen: BTreeMap<Digest, (Descriptor, BTreeSet<ImageName>)> = BTreeMap::new();
        let mut choose = |manifest: Descriptor, name: Option<ImageName>| {
            let (_, names) = chosen
                .entry(manifest.digest)
                .or_insert((manifest, BTreeSet::new()));
            names.extend(name);
        };
        let all = self.list()?;
        let all = all.iter().flat_map(Image::names);
        let tagged: Vec<_> = all.filter(|name| name.tag().is_some()).collect();
        for what in names {
            let meant = meant(what, &tagged);
            for name in &meant {
                choose(self.store.manifest_of(name)?, Some((*name).clone()));
            }
            if meant.is_empty() {
                let image = self.find(what)?;
                let manifest = image.manifests().first();
                choose(
                    manifest.context("an image without a manifest")?.clone(),
                    None,
                );
            }
        }
        Ok(chosen.into_values().collect())
    }
}

/// Which names one on the command line stands for.
fn meant<'a>(what: &str, names: &[&'a ImageName]) -> Vec<&'a ImageName> {
    // What can take a tag has none.
    let repository = format!("{what}:latest").parse::<ImageName>();
    let repository = repository.map(|name| name.repository()).ok();
    let one = what.parse::<ImageName>().ok();
    let meant = |name: &ImageName| match &repository {
        Some(all) => *all == name.repository(),
        None => one.as_ref() == Some(name),
    };
    names.iter().copied().filter(|name| meant(name)).collect()
}

/// What an archive will hold.
struct Archive<'a> {
    store: &'a Store,
    format: Format,
    blobs: BTreeMap<Digest, Blob>,
    index: Index,
    list: Vec<Listed>,
}

/// Where a blob's bytes come from.
enum Blob {
    /// The store, as they are.
    Stored(Descriptor),
    /// A layer of the store, decompressed to so many bytes.
    Expanded(Descriptor, u64),
    /// Here.
    Written(Vec<u8>),
}

/// An entry of docker's `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl<'a> Archive<'a> {
    fn new(store: &'a Store, format: Format) -> Self {
        Self {
            store,
            format,
            blobs: BTreeMap::new(),
            index: Index::empty(),
            list: Vec::new(),
        }
    }

    fn add(&mut self, described: &Descriptor, names: &BTreeSet<ImageName>) -> Result<()> {
        let bytes = self.store.read(described)?;
        let manifest = Manifest::parse(&bytes)?;
        let document = Document::parse(&self.store.read(&manifest.config)?)?;
        let layers = self.layers(&manifest, &document)?;

        let same = |(old, new): (&Descriptor, &Descriptor)| old.media_type == new.media_type;
        let (described, bytes) = match described.media_type == MANIFEST
            && manifest.layers.iter().zip(&layers).all(same)
        {
            true => (described.clone(), bytes),
            false => rewritten(&manifest, layers.clone())?,
        };
        let plain = Descriptor::new(&described.media_type, described.digest, described.size);
        let named = names.iter().map(|name| plain.clone().named(name));
        self.index.manifests.extend(named);
        if names.is_empty() {
            self.index.manifests.push(plain);
        }
        // In full, or podman takes them for names of its own (`localhost/`).
        let tags: Vec<_> = names.iter().map(ImageName::full).collect();
        self.list.push(Listed {
            config: path_of(&manifest.config.digest),
            repo_tags: (!tags.is_empty()).then_some(tags),
            layers: layers.iter().map(|layer| path_of(&layer.digest)).collect(),
        });
        self.blobs.insert(described.digest, Blob::Written(bytes));
        let config = manifest.config;
        self.blobs.insert(config.digest, Blob::Stored(config));
        Ok(())
    }

    /// The layers as this archive has them. The tools that read OCI layouts go by OCI's media types
    /// alone; and docker before 23.0 cannot unpack zstd, so it gets such layers as plain tar.
    fn layers(&mut self, manifest: &Manifest, document: &Document) -> Result<Vec<Descriptor>> {
        let diff_ids = &document.rootfs.diff_ids;
        ensure!(
            manifest.layers.len() == diff_ids.len(),
            "the manifest has {} layers and the config {}",
            manifest.layers.len(),
            diff_ids.len()
        );
        let mut layers = Vec::new();
        for (stored, diff_id) in manifest.layers.iter().zip(diff_ids) {
            let layer = self.store.oci_layer(stored)?;
            let zstd = layer.media_type.ends_with("+zstd");
            if self.format == Format::Oci || !zstd {
                let blob = Blob::Stored(layer.clone());
                self.blobs.insert(layer.digest, blob);
                layers.push(layer);
                continue;
            }
            let size = match self.blobs.get(diff_id) {
                Some(Blob::Expanded(_, size)) => *size,
                _ => io::copy(&mut self.store.tar(&layer)?, &mut io::sink())
                    .with_context(|| format!("decompress the layer {}", layer.digest))?,
            };
            self.blobs.insert(*diff_id, Blob::Expanded(layer, size));
            layers.push(Descriptor::new(LAYER, *diff_id, size));
        }
        Ok(layers)
    }

    fn write(&self, to: impl Write) -> Result<()> {
        let mut tar = Builder::new(BufWriter::with_capacity(256 << 10, to));
        let mut directory = |name: &str| {
            let mut header = header(EntryType::Directory, 0);
            tar.append_data(&mut header, name, io::empty())
        };
        directory("blobs/").and_then(|()| directory("blobs/sha256/"))?;
        for (digest, blob) in &self.blobs {
            let mut append = |size: u64, from: &mut dyn Read| {
                let mut header = header(EntryType::Regular, size);
                tar.append_data(&mut header, path_of(digest), from)
                    .with_context(|| format!("save the blob {digest}"))
            };
            match blob {
                Blob::Written(bytes) => append(bytes.len() as u64, &mut &bytes[..])?,
                Blob::Stored(blob) => append(blob.size, &mut self.store.verified(blob)?)?,
                Blob::Expanded(layer, size) => {
                    let stream = self.store.tar(layer)?;
                    append(*size, &mut Verified::new(stream, *digest, *size))?;
                }
            }
        }
        let mut document = |name: &str, bytes: &[u8]| {
            let mut header = header(EntryType::Regular, bytes.len() as u64);
            tar.append_data(&mut header, name, bytes)
        };
        document("index.json", &serde_json::to_vec(&self.index)?)?;
        if self.format == Format::DockerArchive {
            document("manifest.json", &serde_json::to_vec(&self.list)?)?;
        }
        document("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        tar.into_inner()?.flush().context("write the archive")
    }
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// The manifest of the same image, with its blobs as they are here.
fn rewritten(manifest: &Manifest, layers: Vec<Descriptor>) -> Result<(Descriptor, Vec<u8>)> {
    let config = &manifest.config;
    let config = Descriptor::new(CONFIG, config.digest, config.size);
    let bytes = serde_json::to_vec(&Manifest::new(config, layers))?;
    let described = Descriptor::new(MANIFEST, Digest::of(&bytes), bytes.len() as u64);
    Ok((described, bytes))
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Writes a file that takes its name when it is whole, and until then has none: whatever ends this
/// process leaves nothing of it (open(2), O_TMPFILE).
pub(crate) fn replace(path: &Path, write: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let name = path.file_name().context("this names no file")?;
    // What is there may be a device or a pipe that somebody needs.
    let other = path.metadata().is_ok_and(|there| !there.is_file());
    ensure!(!other, "there is something that is not a file");
    let dir = match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    };
    let mut beside = OsString::from(format!(".{}.", std::process::id()));
    beside.push(name);
    let beside = dir.join(beside);

    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    match rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => {
            let file = File::from(file);
            write(&file)?;
            let file = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::linkat(CWD, file, CWD, &beside, AtFlags::SYMLINK_FOLLOW)?;
        }
        // Not every file system has files without names.
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
            let mut options = File::options();
            let file = options
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&beside)?;
            write(&file).inspect_err(|_| drop(std::fs::remove_file(&beside)))?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(std::fs::rename(&beside, path)?)
}
