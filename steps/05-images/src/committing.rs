//! What a container wrote, as one more layer over its image's.
//!
//! ```text
//! upper/ ──▶ tar ─┬─▶ digest: the diff id
//!                 ├─▶ gzip ──▶ the blob
//!                 └─▶ unpack ──▶ the layer
//! ```

use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::archive::BUFFER;
use crate::arrivals::Arrivals;
use crate::digest::{Digest, Hasher};
use crate::import::Found;
use crate::inside;
use crate::oci::{self, Descriptor, Document, Manifest};
use crate::overlay::Attributes;
use crate::scratch::{Blob, Scratch, Spool};
use crate::tree::Packer;
use crate::unpacking::{Unpacked, Unpacking};
use crate::{Image, ImageName, Store};

impl Store {
    /// Makes an image of what a container wrote to `upper`, over its image. The document says how
    /// the new one is to run; its last step in the history is this one. Nothing written, no layer.
    ///
    /// # Errors
    /// The base lacks a layer, what was written cannot be said in a layer, or the disk is full.
    pub fn commit(
        &self,
        base: &Image,
        upper: &Path,
        name: Option<&ImageName>,
        mut document: Document,
    ) -> Result<Image> {
        let scratch = self.lease()?;
        let mut layers = self.layers_of(base, &scratch)?;
        let arrivals = Arrivals::new(&scratch, self.attributes);
        let written = write(upper, &scratch, self.attributes)
            .with_context(|| format!("make a layer of {}", upper.display()))?;
        if let Some((blob, diff_id, unpacked)) = written {
            arrivals.give_back(blob.digest, unpacked);
            layers.push((blob, diff_id));
        } else if let Some(step) = document.history.last_mut() {
            step.empty_layer = true;
        }
        document.rootfs.diff_ids = layers.iter().map(|(_, diff_id)| *diff_id).collect();
        let config = scratch.keep(&serde_json::to_vec(&document)?)?;
        let described = layers
            .iter()
            .map(|(blob, _)| crate::import::describe_layer(blob));
        let manifest = Manifest::new(
            Descriptor::new(oci::CONFIG, config.digest, config.size),
            described.collect::<Result<_>>()?,
        );
        let image = Found {
            names: name.into_iter().cloned().collect(),
            media_type: oci::MANIFEST.to_owned(),
            manifest: scratch.keep(&serde_json::to_vec(&manifest)?)?,
            config,
            layers,
        };
        self.install_one(image, &arrivals)
    }

    /// An image's layers, which nobody removes any more as long as the lease is there.
    fn layers_of(&self, image: &Image, lease: &Scratch) -> Result<Vec<(Blob, Digest)>> {
        let _used = self.share()?;
        let diff_ids = &image.document.rootfs.diff_ids;
        let blobs = image.manifest.layers.iter().map(|layer| Blob {
            path: self.blob_path(&layer.digest),
            digest: layer.digest,
            size: layer.size,
        });
        let layers: Vec<_> = blobs.zip(diff_ids.iter().copied()).collect();
        let needs = layers.iter().flat_map(|(blob, it)| [blob.digest, *it]);
        lease.need(&needs.collect::<Vec<_>>())?;
        Ok(layers)
    }
}

/// Writes a layer; none where there is nothing in it.
fn write(
    upper: &Path,
    scratch: &Scratch,
    marks: Attributes,
) -> Result<Option<(Blob, Digest, Unpacked)>> {
    let (upper, proc) = (
        inside::directory(upper)?,
        inside::directory(Path::new("/proc"))?,
    );
    let blob = BufWriter::with_capacity(BUFFER, scratch.spool()?);
    let mut layer = Layer {
        // The container stands still meanwhile, and somebody waits.
        blob: GzEncoder::new(blob, Compression::fast()),
        tar: Hasher::default(),
        unpacking: Unpacking::begin(scratch.path(), marks)?,
    };
    let mut packer = Packer::of_layer(&mut layer, &proc, marks);
    packer.add(upper, b"")?;
    if packer.finish()? == 0 {
        return Ok(None);
    }
    let Layer {
        blob,
        tar,
        unpacking,
    } = layer;
    let blob = blob.finish().and_then(|blob| Ok(blob.into_inner()?));
    let blob = blob.context("write the layer")?.finish();
    let unpacked = unpacking.finish(&|_| ())?;
    let (diff_id, _) = tar.finish();
    let unpacked = Unpacked {
        diff_id: Some(diff_id),
        ..unpacked
    };
    Ok(Some((blob, diff_id, unpacked)))
}

struct Layer {
    blob: GzEncoder<BufWriter<Spool>>,
    tar: Hasher,
    unpacking: Unpacking,
}

impl Write for Layer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.tar.update(bytes);
        // Where it fails, its end says why.
        self.unpacking.write(bytes);
        self.blob.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
