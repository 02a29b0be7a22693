//! An image in the store: what the index, its manifest and its config say of it.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde::Serialize;

use crate::digest::Digest;
use crate::name::ImageName;
use crate::oci::{self, Config, Descriptor, Document, Manifest, Platform};

/// An image in the store. Serialized, it is what `docker inspect` shows of one.
#[derive(Clone, Debug)]
pub struct Image {
    pub(crate) names: Vec<ImageName>,
    pub(crate) repo_digests: Vec<ImageName>,
    pub(crate) manifests: Vec<Descriptor>,
    pub(crate) manifest: Manifest,
    pub(crate) document: Document,
    pub(crate) size: u64,
    pub(crate) layers: Vec<PathBuf>,
}

impl Image {
    /// The digest of its config, by which docker knows it.
    pub fn id(&self) -> &Digest {
        &self.manifest.config.digest
    }

    /// The first twelve digits of the id, as lists show it.
    pub fn short_id(&self) -> String {
        self.id().hex().chars().take(12).collect()
    }

    /// What it is called, by tag or by digest; nothing where another image took its last name.
    pub fn names(&self) -> &[ImageName] {
        &self.names
    }

    /// The names by digest under which registries have it.
    pub fn repo_digests(&self) -> &[ImageName] {
        &self.repo_digests
    }

    /// The manifests that lead to it: more than one where the same layers came compressed in two
    /// ways. Never none.
    pub fn manifests(&self) -> &[Descriptor] {
        &self.manifests
    }

    /// The first of its manifests.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its config, in full.
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// For which machines it is.
    pub fn platform(&self) -> Platform {
        self.document.platform()
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

    /// Adds what another entry of the index says of it.
    pub(crate) fn join(&mut self, entry: Self) {
        self.names.extend(entry.names);
        for name in entry.repo_digests {
            if !self.repo_digests.contains(&name) {
                self.repo_digests.push(name);
            }
        }
        for manifest in entry.manifests {
            if self
                .manifests
                .iter()
                .all(|known| known.digest != manifest.digest)
            {
                self.manifests.push(manifest);
            }
        }
    }

    pub(crate) fn is_called(&self, name: &ImageName) -> bool {
        self.names.contains(name) || self.repo_digests.contains(name)
    }

    /// What one registry has under the name: the digest by which it was pulled or pushed there.
    pub fn repo_digest(&self, name: &ImageName) -> Option<&Digest> {
        let repository = name.repository();
        let mut there = self.repo_digests.iter();
        there
            .find(|known| known.repository() == repository)
            .and_then(ImageName::digest)
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
        let tags = self.names.iter().filter(|name| name.tag().is_some());
        let shown = serde_json::json!({
            "Id": self.id(),
            "RepoTags": tags.map(ToString::to_string).collect::<Vec<_>>(),
            "RepoDigests": self.repo_digests.iter().map(ToString::to_string).collect::<Vec<_>>(),
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

/// Sees that layers are there, to be stacked.
pub(crate) fn ensure_layers(layers: &[PathBuf]) -> Result<()> {
    for layer in layers {
        let (there, layer) = (layer.is_dir(), layer.display());
        ensure!(
            there,
            "the layer {layer} is missing; load or pull the image again"
        );
    }
    Ok(())
}

/// The name under which an entry of the index stands.
pub(crate) fn name_of(entry: &Descriptor) -> Option<ImageName> {
    let annotations = &entry.annotations;
    let name = annotations
        .get(oci::FULL_NAME)
        .or(annotations.get(oci::REF_NAME))?;
    name.parse().ok()
}

/// The name by digest under which the registry of an entry's name has it.
pub(crate) fn repo_digest_of(entry: &Descriptor) -> Option<ImageName> {
    let name = name_of(entry)?;
    if name.digest().is_some() {
        return Some(name);
    }
    let digest = entry.annotations.get(oci::REPO_DIGEST)?;
    Some(name.with_digest(digest.parse().ok()?))
}
