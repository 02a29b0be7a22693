//! An image as it comes from a registry, blob by blob, several at once.
//!
//! ```text
//! need      what the image consists of goes into a lease: nobody removes it from now on
//! layer     each layer once: who comes second waits for the first (flock), and finds it there
//!   write     ingest/HEX grows, is hashed and unpacked; what an earlier try left counts
//!   finish    the digests are right: on the disk, and then in place
//! document  config and manifest
//! finish    the name, in index.json
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};

use anyhow::{Context, Error, Result, anyhow, ensure};
use rustix::io::Errno;

use crate::digest::Digest;
use crate::image;
use crate::name::ImageName;
use crate::oci::Descriptor;
use crate::scratch::{Blob, Scratch, Spool};
use crate::unpacking::{Unpacking, for_each_piece};
use crate::{Image, Store, enter};

/// The lease of one image that is on its way, and what has come of it.
pub struct Intake<'a> {
    store: &'a Store,
    pub(crate) scratch: Scratch,
    flushes: Flushes,
}

impl Store {
    /// Begins to take an image in.
    ///
    /// # Errors
    /// The store cannot be written to.
    pub fn intake(&self) -> Result<Intake<'_>> {
        Ok(Intake {
            scratch: self.lease()?,
            flushes: Flushes::default(),
            store: self,
        })
    }

    /// Whether nothing of an image is missing, as far as can be told without reading it.
    pub fn is_complete(&self, image: &Image) -> bool {
        let blobs = image.manifest().layers.iter();
        let mut blobs = blobs
            .chain([&image.manifest().config])
            .chain(image.manifests());
        let mut layers = image.document().rootfs.diff_ids.iter();
        blobs.all(|blob| self.has_blob(blob)) && layers.all(|it| self.layer(it).is_dir())
    }

    /// Whether a blob is here, in its full length.
    pub fn has_blob(&self, blob: &Descriptor) -> bool {
        let file = std::fs::metadata(self.blob_path(&blob.digest));
        file.is_ok_and(|file| file.len() == blob.size)
    }
}

impl Intake<'_> {
    /// Keeps these blobs and layers from being removed, those that are here and those that will be.
    ///
    /// # Errors
    /// The lease cannot be written.
    pub fn need(&self, digests: &[Digest]) -> Result<()> {
        let _used = self.store.share()?;
        self.scratch.need(digests)
    }

    /// Takes a document in: a config or a manifest.
    ///
    /// # Errors
    /// It isn't the one that was announced, or cannot be written.
    pub fn document(&self, announced: &Descriptor, bytes: &[u8]) -> Result<()> {
        let blob = self.scratch.keep(bytes)?;
        check(announced, &blob)?;
        self.store.place_blob(&blob, &self.scratch)
    }

    /// Begins with a layer; none where it is here. Waits while another process is at work on it.
    ///
    /// # Errors
    /// What an earlier try left cannot be read, or a file not be made.
    pub fn layer(&self, blob: &Descriptor, diff_id: &Digest) -> Result<Option<Incoming<'_>>> {
        let (store, digest) = (self.store, blob.digest);
        let path = store.dir.join("ingest").join(digest.hex());
        let file = open_locked(&path).with_context(|| format!("open {}", path.display()))?;
        let (unpacked, complete) = (store.layer(diff_id).exists(), store.has_blob(blob));
        if unpacked && complete {
            let _ = std::fs::remove_file(&path);
            return Ok(None);
        }
        if complete {
            // Its tree was lost. Or another image has the same blob, and claims that it is another
            // tree's.
            std::fs::copy(store.blob_path(&digest), &path)
                .with_context(|| format!("copy the blob {digest}"))?;
        }
        let mut incoming = Incoming {
            intake: self,
            blob: blob.clone(),
            diff_id: *diff_id,
            spool: Spool::new(path, file),
            unpacking: match unpacked {
                true => None,
                false => Some(Unpacking::begin(self.scratch.path(), store.attributes)?),
            },
        };
        incoming.go_on()?;
        Ok(Some(incoming))
    }

    /// Gives the image its name, now that all of it is here, and says under which digest the name's
    /// registry has it.
    ///
    /// # Errors
    /// Something is missing after all, or the index cannot be replaced.
    pub fn finish(self, manifest: &Descriptor, name: &ImageName, there: Digest) -> Result<Image> {
        let _used = self.store.share()?;
        let image = self.store.image(manifest)?;
        image::ensure_layers(&image.layers)?;
        self.store.edit_index(|index| {
            enter(index, manifest, std::slice::from_ref(name), Some(there));
            Ok(())
        })?;
        Ok(image)
    }
}

/// A layer that is being fetched, to be unpacked as it comes.
pub struct Incoming<'a> {
    intake: &'a Intake<'a>,
    blob: Descriptor,
    diff_id: Digest,
    spool: Spool,
    /// None where only the blob is missing.
    unpacking: Option<Unpacking>,
}

impl Incoming<'_> {
    /// How many bytes of the blob are here.
    pub fn received(&self) -> u64 {
        self.spool.size()
    }

    /// Takes what an earlier try left, which may be all of it or nothing.
    fn go_on(&mut self) -> Result<()> {
        let there = self.spool.length()?;
        if there > self.blob.size {
            return self.spool.clear();
        }
        let path = self.spool.path().to_owned();
        for_each_piece(&path, |bytes| {
            self.spool.add(bytes);
            self.unpack(bytes)
        })
    }

    /// Takes the next bytes from the registry.
    ///
    /// # Errors
    /// [`Mismatch`]: they are more than were announced, or cannot be unpacked. Or the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let after = self.spool.size().saturating_add(bytes.len() as u64);
        let Descriptor { digest, size, .. } = &self.blob;
        if after > *size {
            let why = anyhow!("the layer {digest} is said to be of {size} bytes, and more came");
            return Err(self.reject(why));
        }
        self.spool
            .write_all(bytes)
            .with_context(|| format!("write the layer {digest}"))?;
        self.unpack(bytes)
    }

    fn unpack(&mut self, bytes: &[u8]) -> Result<()> {
        let refused = |unpacking: &mut Unpacking| !unpacking.write(bytes);
        let Some(failed) = self.unpacking.take_if(refused) else {
            return Ok(());
        };
        let why = failed.finish(&|_| ()).err();
        let why = why.context("the layer was given up")?;
        let full = is_full(&why);
        let why = why.context(format!("unpack the layer {}", self.blob.digest));
        // Whether these are the right bytes nobody knows before the last has come.
        Err(if full { why } else { self.reject(why) })
    }

    /// Sees to it that nothing stays of the wrong bytes, and says that they are.
    fn reject(&self, why: Error) -> Error {
        let _ = std::fs::remove_file(self.spool.path());
        why.context(Mismatch)
    }

    /// Waits until the layer is unpacked, looks whether it is the right one, and puts it in its
    /// place. `unpacked` is told now and then how many bytes of the blob have been worked on.
    ///
    /// # Errors
    /// [`Mismatch`]: it isn't what was announced, and nothing stays of it. Or the disk is full.
    pub fn finish(mut self, unpacked: &dyn Fn(u64)) -> Result<()> {
        let Intake { store, flushes, .. } = self.intake;
        let layer = self.unpacking.take().map(|it| it.finish(unpacked));
        let blob = self.spool.finish();
        // The right blob stays, be it only because there was no room to unpack it.
        check(&self.blob, &blob).map_err(|error| self.reject(error))?;
        let layer = layer
            .transpose()
            .and_then(|layer| {
                layer
                    .map(|it| it.check(&blob.digest, &self.diff_id))
                    .transpose()
            })
            .with_context(|| format!("unpack the layer {}", blob.digest))?;

        flushes.flush(|| store.flush())?;
        if let Some(layer) = layer {
            layer.outcome.warn();
            store.place_layer(&layer.dir, &self.diff_id)?;
        }
        std::fs::rename(&blob.path, store.blob_path(&blob.digest))
            .with_context(|| format!("put the blob {} in place", blob.digest))
    }
}

/// What came, now or in an earlier try, is not what was announced. Nothing stays of it.
#[derive(Clone, Copy, Debug)]
pub struct Mismatch;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what came is not what was announced")
    }
}

impl std::error::Error for Mismatch {}

/// Whether something failed for want of room.
fn is_full(error: &Error) -> bool {
    error.chain().any(|why| {
        let by_std = why.downcast_ref::<io::Error>();
        by_std.is_some_and(|it| it.kind() == ErrorKind::StorageFull)
            || why.downcast_ref() == Some(&Errno::NOSPC)
    })
}

/// Opens a file that may be moved away at any moment by who holds its lock, and locks it.
fn open_locked(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    loop {
        let file = options.open(path)?;
        file.lock()?;
        match std::fs::metadata(path) {
            Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
}

fn check(announced: &Descriptor, blob: &Blob) -> Result<()> {
    let Descriptor { digest, size, .. } = announced;
    ensure!(
        blob.size == *size,
        "the blob {digest} is said to be of {size} bytes, and {} came",
        blob.size
    );
    ensure!(
        blob.digest == *digest,
        "the blob should have the digest {digest}, and has {}",
        blob.digest
    );
    Ok(())
}

/// Lets layers that are complete at about the same time share a flush of the disk: who comes while
/// one is under way waits for the next, and then it is made once for all who wait.
#[derive(Default)]
struct Flushes {
    state: Mutex<Flushed>,
    ended: Condvar,
}

#[derive(Default)]
struct Flushed {
    under_way: bool,
    begun: u64,
    done: u64,
}

impl Flushes {
    fn flush(&self, flush: impl Fn() -> Result<()>) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let ours = state.begun + 1;
        while state.done < ours {
            if state.under_way {
                let woken = self.ended.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.under_way = true;
            state.begun += 1;
            let this = state.begun;
            drop(state);
            let flushed = flush();
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.under_way = false;
            self.ended.notify_all();
            flushed?;
            state.done = state.done.max(this);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
