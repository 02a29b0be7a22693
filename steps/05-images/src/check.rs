//! Is everything in the store what it is called, and all of it there?
//!
//! ```text
//! index.json                   put together from what it says and what lies among the blobs
//! manifest, config, layer      fetched anew from where its image came
//! unpacked layer               unpacked anew from its blob, and compared in any case
//! what nothing needs           removed
//! ```
//!
//! That is how what is damaged is made good; where it cannot be, the damaged thing is taken out of
//! its place all the same, so that the next pull or load brings it. No image is dropped. Others go
//! on meanwhile: a lease keeps what the index names, and things are exchanged in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use rustix::fs::{CWD, RenameFlags, Timespec};
use rustix::io::Errno;
use serde_json::Value;

use crate::archive::BUFFER;
use crate::compare::compare;
use crate::container::{self, User};
use crate::digest::{Digest, Hashed};
use crate::image::{name_of, repo_digest_of};
use crate::import::check_layout;
use crate::intake::Intake;
use crate::name::ImageName;
use crate::oci::{Descriptor, Document, FULL_NAME, Index, MANIFEST, Manifest, REF_NAME};
use crate::removal::{Unneeded, digests_in};
use crate::scratch::Scratch;
use crate::unpacking::{Unpacked, Unpacking};
use crate::{LAYOUT, Store, forget_repeats, lock, replace};

/// Something that is wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is, and what became of it or has to be done.
    pub what: String,
    /// Whether it is right now.
    pub mended: bool,
}

/// A blob of an image that is missing or damaged.
#[derive(Clone, Copy, Debug)]
pub enum Lost<'a> {
    /// Its manifest.
    Manifest(&'a Descriptor),
    /// Its config.
    Config(&'a Descriptor),
    /// A layer, and what that unpacks to.
    Layer(&'a Descriptor, &'a Digest),
}

impl Lost<'_> {
    fn digest(&self) -> &Digest {
        match self {
            Self::Manifest(blob) | Self::Config(blob) | Self::Layer(blob, _) => &blob.digest,
        }
    }
}

/// Brings a blob of the image of that name to an intake again, from the name's registry.
pub type Fetch<'a> = dyn Fn(&Intake<'_>, &ImageName, Lost<'_>) -> Result<()> + 'a;

impl Store {
    /// Looks at everything in the store at `dir`, blobs and unpacked layers bit by bit, and tells
    /// what is wrong. Mends it, too, if it is told how a blob can be fetched.
    ///
    /// # Errors
    /// The store is of an unknown version, or cannot be read or written as a whole. One thing's
    /// damage is no error but a finding.
    pub fn check(dir: &Path, fetch: Option<&Fetch<'_>>, tell: &dyn Fn(Finding)) -> Result<()> {
        if !dir.join("images").exists() {
            return Ok(());
        }
        let store = &Self::at(dir)?;
        let check = Check { store, fetch, tell };
        // One at a time, or one would miss what another holds in its hands.
        let _alone = lock(&store.dir.join("ingest"), File::lock)?;
        check.layout()?;
        check.leftovers()?;
        let intake = store.intake()?;
        let index = check.keep(&intake)?;
        check.names(&index);
        for layer in check.documents(&intake, &index)?.values() {
            check.layer(&intake, layer)?;
        }
        drop(intake);
        check.translations();
        check.unneeded()
    }
}

struct Check<'a> {
    store: &'a Store,
    fetch: Option<&'a Fetch<'a>>,
    tell: &'a dyn Fn(Finding),
}

/// Those for whom a thing is there, and from where it can be had.
#[derive(Clone, Default)]
struct Owners {
    names: BTreeSet<String>,
    sources: BTreeSet<ImageName>,
}

impl Owners {
    fn names(&self) -> String {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        names.join(", ")
    }
}

/// A layer of one or more images.
struct Layer {
    blob: Descriptor,
    diff_id: Digest,
    owners: Owners,
}

/// By blob and diff id.
type Layers = BTreeMap<(Digest, Digest), Layer>;

impl Check<'_> {
    /// Tells of something, and mends it by `act` if anything is to be mended; whether it is now.
    fn settle(&self, what: &str, cure: &str, act: impl FnOnce(&Fetch<'_>) -> Result<()>) -> bool {
        let (outcome, mended) = match self.fetch.map(act) {
            None => (format!("it can be {cure}"), false),
            Some(Ok(())) => (cure.to_owned(), true),
            Some(Err(error)) => (format!("it could not be {cure}: {error:#}"), false),
        };
        let what = format!("{what}: {outcome}");
        (self.tell)(Finding { what, mended });
        mended
    }

    /// Tells of something that nothing can be done about.
    fn complain(&self, what: String) {
        let mended = false;
        (self.tell)(Finding { what, mended });
    }

    fn layout(&self) -> Result<()> {
        let path = self.store.dir.join("images/oci-layout");
        let what = match std::fs::read(&path) {
            Ok(bytes) => match (
                check_layout(&bytes),
                serde_json::from_slice::<Value>(&bytes),
            ) {
                (Ok(()), _) => return Ok(()),
                (Err(other), Ok(it)) if it.get("imageLayoutVersion").is_some() => {
                    return Err(other);
                }
                (Err(_), _) => "oci-layout is damaged",
            },
            Err(_) => "oci-layout is missing",
        };
        self.settle(what, "written anew", |_| replace(&path, LAYOUT));
        Ok(())
    }

    fn leftovers(&self) -> Result<()> {
        for path in self.store.leftovers()? {
            let what = format!("a dead process left {}", path.display());
            self.settle(&what, "removed", |_| self.store.sweep());
        }
        Ok(())
    }

    /// Reads the index, and keeps from now on what it names.
    fn keep(&self, intake: &Intake<'_>) -> Result<Index> {
        let _used = self.store.share()?;
        let index = self.index()?;
        for entry in &index.manifests {
            let mut needs = vec![entry.digest];
            if let Ok(manifest) = self.manifest(&entry.digest) {
                needs.push(manifest.config.digest);
                needs.extend(manifest.layers.iter().map(|layer| layer.digest));
                let document = self.document(&manifest.config.digest);
                needs.extend(document.map_or(Vec::new(), |it| it.rootfs.diff_ids));
            }
            intake.scratch.need(&needs)?;
        }
        Ok(index)
    }

    fn index(&self) -> Result<Index> {
        let path = self.store.dir.join("images/index.json");
        let bytes = std::fs::read(&path);
        let bytes = match bytes {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            bytes => bytes.with_context(|| format!("read {}", path.display()))?,
        };
        let why = match Index::listed(&bytes) {
            Ok(index) => return Ok(index),
            Err(why) => why,
        };
        let mut index = Index::empty();
        index.manifests = entries_in(&bytes);
        let unlisted = self.unlisted(&index)?;
        let nameless = unlisted.len();
        index.manifests.extend(unlisted);
        let cure = format!(
            "put together anew from what it says and from the manifests among the blobs, of which \
             {nameless} have lost their names; what was there is index.json.damaged"
        );
        self.settle(&format!("index.json: {why:#}"), &cure, |_| {
            let _editing = lock(&self.store.dir.join("images"), File::lock)?;
            if self.store.index().is_ok() {
                return Ok(());
            }
            if !bytes.is_empty() {
                replace(&path.with_extension("json.damaged"), &bytes)?;
            }
            replace(&path, &serde_json::to_vec_pretty(&index)?)
        });
        Ok(index)
    }

    /// The manifests among the blobs that no entry of the index names.
    fn unlisted(&self, index: &Index) -> Result<Vec<Descriptor>> {
        let listed = |digest: &Digest| index.manifests.iter().any(|it| it.digest == *digest);
        let blobs = digests_in(&self.store.dir.join("images/blobs/sha256"))?;
        let mut found = Vec::new();
        for (_, digest) in blobs.into_iter().filter(|(_, digest)| !listed(digest)) {
            let whole = |manifest: &Manifest| self.document(&manifest.config.digest).is_ok();
            if let Ok(manifest) = self.manifest(&digest)
                && whole(&manifest)
            {
                let kind = manifest.media_type.as_deref().unwrap_or(MANIFEST);
                let size = self.read(&digest)?.len() as u64;
                found.push(Descriptor::new(kind, digest, size));
            }
        }
        Ok(found)
    }

    fn names(&self, index: &Index) {
        let tidy = |_: &Fetch<'_>| {
            self.store.edit_index(|index| {
                tidy(index);
                Ok(())
            })
        };
        let mut known = BTreeSet::new();
        for entry in &index.manifests {
            let annotations = &entry.annotations;
            let Some(text) = annotations.get(FULL_NAME).or(annotations.get(REF_NAME)) else {
                continue;
            };
            match name_of(entry) {
                None => {
                    let what = format!(
                        "the image {} has the name {text:?}, which is none",
                        entry.digest
                    );
                    self.settle(&what, "taken away", tidy);
                }
                Some(name) if !known.insert(name.clone()) => {
                    let what = format!("index.json has the name {text} twice");
                    self.settle(&what, &format!("taken from {}", entry.digest), tidy);
                }
                Some(_) => {}
            }
        }
    }

    /// Looks at manifests and configs, and returns the layers that they name.
    fn documents(&self, intake: &Intake<'_>, index: &Index) -> Result<Layers> {
        let mut images: BTreeMap<Digest, (Descriptor, Owners)> = BTreeMap::new();
        for entry in &index.manifests {
            let (_, owners) = images
                .entry(entry.digest)
                .or_insert((entry.clone(), Owners::default()));
            let id = entry.digest.to_string();
            let name = name_of(entry).map_or(id, |name| name.to_string());
            owners.names.insert(name);
            owners.sources.extend(repo_digest_of(entry));
        }
        let mut layers = Layers::new();
        let mut lost = false;
        for (entry, owners) in images.values() {
            lost |= self.image(intake, entry, owners, &mut layers).is_none();
        }
        // The entry of an image may itself be what was damaged.
        let unlisted = match lost {
            true => self.unlisted(index)?,
            false => Vec::new(),
        };
        for found in unlisted {
            let what = format!("index.json doesn't name the image {}", found.digest);
            self.settle(&what, "entered without a name", |_| {
                self.store.edit_index(|index| {
                    index.manifests.push(found.clone());
                    Ok(())
                })
            });
            let owners = Owners {
                names: BTreeSet::from([found.digest.to_string()]),
                ..Owners::default()
            };
            self.image(intake, &found, &owners, &mut layers);
        }
        Ok(layers)
    }

    /// Adds an image's layers; none where it cannot be known which they are.
    fn image(
        &self,
        intake: &Intake<'_>,
        entry: &Descriptor,
        owners: &Owners,
        layers: &mut Layers,
    ) -> Option<()> {
        let bytes = self.blob(intake, Lost::Manifest(entry), owners)?;
        let manifest = self.parsed(Manifest::parse(&bytes), owners)?;
        let kind = manifest.media_type.as_ref().unwrap_or(&entry.media_type);
        let size = bytes.len() as u64;
        if (size, kind) != (entry.size, &entry.media_type) {
            let what = format!("index.json is wrong about the manifest {}", entry.digest);
            self.settle(&what, "corrected", |_| {
                self.store.edit_index(|index| {
                    let entries = index.manifests.iter_mut();
                    for entry in entries.filter(|it| it.digest == entry.digest) {
                        (entry.size, entry.media_type) = (size, kind.clone());
                    }
                    Ok(())
                })
            });
        }
        let bytes = self.blob(intake, Lost::Config(&manifest.config), owners)?;
        let document = self.parsed(Document::parse(&bytes), owners)?;
        let diff_ids = document.rootfs.diff_ids;
        if diff_ids.len() != manifest.layers.len() {
            let (has, says) = (manifest.layers.len(), diff_ids.len());
            let names = owners.names();
            self.complain(format!(
                "{names}: {has} layers, and its config knows {says}; remove it"
            ));
        }
        for (blob, diff_id) in manifest.layers.into_iter().zip(diff_ids) {
            let key = (blob.digest, diff_id);
            let owners = owners.clone();
            let layer = layers.entry(key).or_insert(Layer {
                blob,
                diff_id,
                owners: Owners::default(),
            });
            layer.owners.names.extend(owners.names);
            layer.owners.sources.extend(owners.sources);
        }
        Some(())
    }

    /// What is no manifest or config though it is what was stored is not for mending.
    fn parsed<T>(&self, parsed: Result<T>, owners: &Owners) -> Option<T> {
        let told = |error| self.complain(format!("{}: {error:#}; remove it", owners.names()));
        parsed.map_err(told).ok()
    }

    /// Reads a document, which is fetched anew if need be.
    fn blob(&self, intake: &Intake<'_>, lost: Lost<'_>, owners: &Owners) -> Option<Vec<u8>> {
        let read = self.read(lost.digest());
        if let Err(why) = &read {
            self.fetch(intake, lost, owners, why);
            return self.read(lost.digest()).ok();
        }
        read.ok()
    }

    /// Tells of a lost blob, and has it fetched.
    fn fetch(&self, intake: &Intake<'_>, lost: Lost<'_>, owners: &Owners, why: &Error) -> bool {
        let kind = match lost {
            Lost::Manifest(_) => "manifest",
            Lost::Config(_) => "config",
            Lost::Layer(..) => "layer",
        };
        let names = owners.names();
        let what = format!("the {kind} {} of {names}: {why:#}", lost.digest());
        self.settle(&what, "fetched anew", |fetch| {
            if !self.take_away(lost.digest())? {
                return Ok(());
            }
            let mut fetched = Err(anyhow!("it came from no registry"));
            for name in &owners.sources {
                fetched = fetch(intake, name, lost);
                if fetched.is_ok() {
                    break;
                }
            }
            fetched.map_err(|error| anyhow!("{error:#}; pull or load {names} again"))
        })
    }

    /// Takes a damaged blob out of its place: who only sees that it is there would rely on it.
    /// False if by now somebody has brought a good one.
    fn take_away(&self, digest: &Digest) -> Result<bool> {
        let scratch = self.store.lease()?;
        let (path, away) = (self.store.blob_path(digest), scratch.path());
        match std::fs::rename(&path, &away) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
            moved => moved.with_context(|| format!("move {}", path.display()))?,
        }
        if File::open(&away).is_ok_and(|file| is_intact(file, digest)) {
            std::fs::rename(&away, &path)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn layer(&self, intake: &Intake<'_>, layer: &Layer) -> Result<()> {
        let Layer {
            blob,
            diff_id,
            owners,
        } = layer;
        let scratch = self.store.lease()?;
        let begun = scratch.begun()?;
        let lost = || {
            !self
                .open(&blob.digest)
                .is_ok_and(|file| is_intact(file, &blob.digest))
        };
        let fresh = match self.unpack(&scratch, layer) {
            Err(why) if lost() => {
                if !self.fetch(intake, Lost::Layer(blob, diff_id), owners, &why) {
                    return Ok(());
                }
                self.unpack(&scratch, layer)
            }
            // Somebody else may have mended it just now.
            Err(_) => self.unpack(&scratch, layer),
            fresh => fresh,
        };
        let fresh = match fresh {
            Ok(fresh) => fresh,
            Err(why) => {
                let (layer, names) = (blob.digest, owners.names());
                self.complain(format!("the layer {layer} of {names}: {why:#}"));
                return Ok(());
            }
        };
        if let Err(why) = self.same(layer, &fresh, begun) {
            let names = owners.names();
            let what = format!("the unpacked layer {diff_id} of {names}: {why:#}");
            self.settle(&what, "unpacked anew", |_| self.exchange(layer, &fresh));
        }
        Ok(())
    }

    /// Unpacks a layer's blob, and reads it through in any case.
    fn unpack(&self, scratch: &Scratch, layer: &Layer) -> Result<Unpacked> {
        let digest = &layer.blob.digest;
        let mut stream = Hashed::new(self.open(digest)?);
        let mut unpacking = Unpacking::begin(scratch.path(), self.store.attributes)?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = stream.read(&mut buffer).context("read the blob")?;
            let Some(bytes @ [_, ..]) = buffer.get(..count) else {
                break;
            };
            unpacking.write(bytes);
        }
        ensure!(stream.finish() == *digest, "its blob is damaged");
        unpacking.finish(&|_| ())?.check(digest, &layer.diff_id)
    }

    fn same(&self, layer: &Layer, fresh: &Unpacked, begun: Timespec) -> Result<()> {
        let place = self.store.layer(&layer.diff_id);
        ensure!(place.is_dir(), "it is missing");
        compare(&place.join("diff"), &fresh.dir.join("diff"), begun)?;
        let size = std::fs::read_to_string(place.join("size")).unwrap_or_default();
        let noted = size == fresh.outcome.size.to_string();
        ensure!(noted, "its size is not noted as it is");
        Ok(())
    }

    /// Puts a fresh tree in the place of a damaged one.
    fn exchange(&self, layer: &Layer, fresh: &Unpacked) -> Result<()> {
        self.store.flush()?;
        let _alone = lock(&self.store.dir.join("layers"), File::lock)?;
        for image in self.store.images()? {
            if image.document.rootfs.diff_ids.contains(&layer.diff_id)
                && let Some(user) = container::user_of(&self.store.dir, image.id())?
            {
                match user {
                    User::Living(id) => {
                        bail!("the container {id} is running on it; stop that first")
                    }
                    User::Kept(id) => bail!("the container {id} needs it; remove that first"),
                }
            }
        }
        let place = self.store.layer(&layer.diff_id);
        match rustix::fs::renameat_with(CWD, &fresh.dir, CWD, &place, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => self.store.place_layer(&fresh.dir, &layer.diff_id),
            exchanged => exchanged.with_context(|| format!("exchange {}", place.display())),
        }
    }

    /// What is there for others follows from the index, and is made anew with it.
    fn translations(&self) {
        for entry in self.store.translations().unwrap_or_default() {
            if let Err(why) = self.read(&entry.digest) {
                let what = format!("the OCI manifest {}: {why:#}", entry.digest);
                self.settle(&what, "made anew", |_| self.store.edit_index(|_| Ok(())));
            }
        }
    }

    fn unneeded(&self) -> Result<()> {
        let alone = lock(&self.store.dir.join("layers"), File::lock)?;
        let Unneeded { blobs, layers } = self.store.unneeded(&alone)?;
        let downloads = self.store.given_up()?.into_iter().map(|(path, _)| path);
        let downloads: Vec<_> = downloads.collect();
        drop(alone);

        let blobs = blobs
            .iter()
            .map(|(_, blob)| format!("no image needs the blob {blob}"));
        let layers = layers
            .iter()
            .map(|(_, layer)| format!("no image needs the unpacked layer {layer}"));
        let downloads = downloads
            .iter()
            .map(|path| format!("nobody goes on with the download {}", path.display()));
        let mut pruned = None;
        for what in blobs.chain(layers).chain(downloads) {
            self.settle(&what, "removed", |_| {
                let pruned = pruned.get_or_insert_with(|| self.store.prune(|_| false));
                pruned
                    .as_ref()
                    .map(drop)
                    .map_err(|error| anyhow!("{error:#}"))
            });
        }
        Ok(())
    }

    fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        Manifest::parse(&self.read(digest)?)
    }

    fn document(&self, digest: &Digest) -> Result<Document> {
        Document::parse(&self.read(digest)?)
    }

    fn open(&self, digest: &Digest) -> Result<File> {
        let blob = self.store.blob(digest);
        blob.map_err(|error| match self.store.blob_path(digest).exists() {
            true => error,
            false => anyhow!("it is missing"),
        })
    }

    /// Reads a document, if it is what it is called; how long it is said to be doesn't matter.
    fn read(&self, digest: &Digest) -> Result<Vec<u8>> {
        let file = self.open(digest)?;
        let size = file.metadata()?.len();
        Descriptor::new("", *digest, size).ensure_document()?;
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes)?;
        ensure!(Digest::of(&bytes) == *digest, "it is damaged");
        Ok(bytes)
    }
}

/// The entries of a damaged index that can be read.
fn entries_in(bytes: &[u8]) -> Vec<Descriptor> {
    let index: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let entries = index.get("manifests").and_then(Value::as_array);
    let entries = entries.into_iter().flatten().cloned();
    entries
        .filter_map(|entry| serde_json::from_value(entry).ok())
        .filter(|entry: &Descriptor| !entry.is_translation())
        .collect()
}

/// Takes names away that are none, or somebody else's.
fn tidy(index: &mut Index) {
    let mut known = BTreeSet::new();
    for entry in &mut index.manifests {
        if !name_of(entry).is_some_and(|name| known.insert(name)) {
            entry.annotations.clear();
        }
    }
    forget_repeats(index);
}

fn is_intact(file: File, digest: &Digest) -> bool {
    let mut stream = Hashed::new(file);
    io::copy(&mut stream, &mut io::sink()).is_ok() && stream.finish() == *digest
}

#[cfg(test)]
mod tests;
