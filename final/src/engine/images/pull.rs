//! What happens in a pull.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use images::{
    Descriptor, Digest, Document, Image, ImageName, Incoming, Index, Intake, Manifest, Mismatch,
    Platform,
};

use super::at_once::{self, Others};
use super::{Images, Report, Stage};
use crate::registry::{Blob, Fetched, Registry};

/// Layers that are fetched side by side; docker's default as well.
const AT_ONCE: usize = 3;
/// How deep one index may lie in another; two are in use.
const DEEPEST_INDEX: u32 = 4;
/// Bytes that are taken from the network at once.
const PIECE: usize = 256 << 10;

/// What a pull came to.
#[derive(Debug)]
pub struct Pulled {
    /// Under which digest the registry has it: an index's, where there is one.
    pub digest: Digest,
    /// Whether it is another image than was here, or the first.
    pub newer: bool,
}

/// A pull that is under way.
pub(super) struct Pull<'a> {
    pub(super) registry: &'a Registry,
    pub(super) name: &'a ImageName,
    pub(super) report: Report<'a>,
}

impl Images {
    /// Fetches the image of a name for a platform, this machine's where none is given.
    ///
    /// # Errors
    /// The registry has no such image or refuses it, what came is not what was announced, the disk
    /// is full. What was fetched until then is kept for the next try.
    pub fn pull(
        &self,
        registry: &Registry,
        name: &ImageName,
        platform: Option<&Platform>,
        report: Report<'_>,
    ) -> Result<Pulled> {
        let here = Platform::here();
        let platform = platform.unwrap_or(&here);
        let pull = Pull {
            registry,
            name,
            report,
        };

        // What is here already costs no more than a question.
        let before = self.store.find(&name.to_string()).ok();
        if let Some(image) = &before
            && platform.runs(&image.platform())
            && let Some(digest) = pull.unchanged(image)?
            && self.store.is_complete(image)
        {
            let newer = false;
            self.tell("pull", &name.to_string(), &name.repository());
            return Ok(Pulled { digest, newer });
        }

        // From the name to a manifest, through an index if there is one.
        let (digest, manifest) = pull.choose(platform)?;
        let parsed = Manifest::parse(&manifest.bytes)?;

        // From here on nobody removes what this image needs.
        let intake = self.store.intake()?;
        let blobs = parsed.layers.iter().chain([&parsed.config]);
        let mut needs: Vec<_> = blobs.map(|blob| blob.digest).collect();
        needs.push(manifest.digest);
        intake.need(&needs)?;

        // Only the config knows what the layers unpack to.
        let config = pull.document(&parsed.config)?;
        let document = Document::parse(&config)?;
        let diff_ids = &document.rootfs.diff_ids;
        ensure!(
            diff_ids.len() == parsed.layers.len(),
            "the manifest has {} layers and the config {}",
            parsed.layers.len(),
            diff_ids.len()
        );
        intake.need(diff_ids)?;

        // The layers side by side, each unpacked while it comes.
        let layers: Vec<_> = parsed.layers.iter().zip(diff_ids).collect();
        pull.layers(&intake, &layers)?;

        // The name last: until now there was no such image, and now all of it is here.
        let described = describe(&manifest);
        intake.document(&parsed.config, &config)?;
        intake.document(&described, &manifest.bytes)?;
        let image = intake.finish(&described, name, digest)?;
        let newer = before.is_none_or(|before| before.id() != image.id());
        self.tell("pull", &name.to_string(), &name.repository());
        Ok(Pulled { digest, newer })
    }
}

impl Pull<'_> {
    /// The digest of the image that is here, if the registry has the same under the name today.
    fn unchanged(&self, image: &Image) -> Result<Option<Digest>> {
        let Some(known) = image.repo_digest(self.name) else {
            return Ok(None);
        };
        let (path, reference) = (self.name.path(), self.name.reference());
        let there = self.registry.head(path, &reference)?;
        Ok(there.filter(|digest| digest == known))
    }

    /// The manifest for a platform, and the digest that the name has in the registry.
    fn choose(&self, platform: &Platform) -> Result<(Digest, Fetched)> {
        let path = self.name.path();
        let top = self.registry.manifest(path, &self.name.reference())?;
        let digest = top.digest;
        let mut found = top;
        for _ in 0..DEEPEST_INDEX {
            if !describe(&found).is_index() {
                return Ok((digest, found));
            }
            let index = Index::parse(&found.bytes)?;
            let chosen = index.select(platform)?;
            found = self.registry.manifest(path, &chosen.digest.to_string())?;
            ensure!(
                found.media_type == chosen.media_type,
                "the manifest {} is announced as {} and comes as {}",
                chosen.digest,
                chosen.media_type,
                found.media_type
            );
        }
        bail!("an index in an index in an index …")
    }

    /// A whole blob of a document's size.
    pub(super) fn document(&self, blob: &Descriptor) -> Result<Vec<u8>> {
        blob.ensure_document()?;
        let mut bytes = Vec::new();
        self.registry
            .blob(self.name.path(), whole(blob), 0, &|_| ())?
            .read_to_end(&mut bytes)?;
        ensure!(
            Digest::of(&bytes) == blob.digest,
            "the blob should have the digest {}, and has {}",
            blob.digest,
            Digest::of(&bytes)
        );
        Ok(bytes)
    }

    pub(super) fn layers(
        &self,
        intake: &Intake<'_>,
        layers: &[(&Descriptor, &Digest)],
    ) -> Result<()> {
        for (layer, _) in layers {
            (self.report)(&layer.digest, Stage::PullingFsLayer);
        }
        at_once::each(layers, AT_ONCE, |(layer, diff_id), others| {
            let pulled = self.layer(intake, layer, diff_id, others);
            pulled.with_context(|| format!("pull the layer {}", layer.digest))
        })
    }

    /// One layer, from the registry to its place.
    fn layer(
        &self,
        intake: &Intake<'_>,
        layer: &Descriptor,
        diff_id: &Digest,
        others: &Others,
    ) -> Result<()> {
        let Some(incoming) = intake.layer(layer, diff_id)? else {
            (self.report)(&layer.digest, Stage::AlreadyExists);
            return Ok(());
        };
        let from_before = incoming.received() > 0;
        match self.fetch(incoming, layer, others) {
            // What an earlier try left was no good, and is gone now: this once from the start.
            Err(error) if from_before && error.is::<Mismatch>() => {
                match intake.layer(layer, diff_id)? {
                    Some(incoming) => self.fetch(incoming, layer, others),
                    None => Ok(()),
                }
            }
            fetched => fetched,
        }
    }

    fn fetch(&self, mut incoming: Incoming<'_>, layer: &Descriptor, others: &Others) -> Result<()> {
        let (digest, total) = (&layer.digest, layer.size);
        let received = incoming.received();
        if received < total {
            let path = self.name.path();
            let pausing = |pause| (self.report)(digest, Stage::Retrying { pause });
            let mut download = self.registry.blob(path, whole(layer), received, &pausing)?;
            let mut piece = vec![0; PIECE];
            loop {
                let count = download.read(&mut piece)?;
                let Some(bytes @ [_, ..]) = piece.get(..count) else {
                    break;
                };
                incoming.write(bytes)?;
                let done = incoming.received();
                (self.report)(digest, Stage::Downloading { done, total });
                others.go_on()?;
            }
        }
        (self.report)(digest, Stage::DownloadComplete);
        incoming.finish(&|done| (self.report)(digest, Stage::Extracting { done, total }))?;
        (self.report)(digest, Stage::PullComplete);
        Ok(())
    }
}

fn whole(blob: &Descriptor) -> Blob {
    let Descriptor { digest, size, .. } = *blob;
    Blob { digest, size }
}

fn describe(manifest: &Fetched) -> Descriptor {
    let size = manifest.bytes.len() as u64;
    Descriptor::new(&manifest.media_type, manifest.digest, size)
}
