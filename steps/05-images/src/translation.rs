//! Docker's manifests in OCI's words, for tools that read a layout and know no others.
//!
//! Such an image has two entries in `index.json`: ours, and one for the others, whose manifest says
//! of the same config and layers what they are by OCI's media types. The second follows from the
//! first; it is made anew whenever the index is replaced, and nobody here goes by it.

use anyhow::{Context, Result};

use crate::digest::Digest;
use crate::image::name_of;
use crate::oci::{CONFIG, DOCKER_MANIFEST, Descriptor, Index, LAYER, MANIFEST, Manifest, REF_NAME};
use crate::{Store, replace};

/// An entry's annotation: the manifest that it translates.
const ORIGINAL: &str = "io.minidocker.image.original";

impl Descriptor {
    /// Whether this entry of an index is there for others.
    pub(crate) fn is_translation(&self) -> bool {
        self.annotations.contains_key(ORIGINAL)
    }
}

impl Store {
    /// Adds the entries for others to an index that has none.
    pub(crate) fn translate(&self, index: &mut Index) -> Result<()> {
        let mut translated = Vec::new();
        for entry in &mut index.manifests {
            let Some(name) = name_of(entry).filter(|_| entry.media_type == DOCKER_MANIFEST) else {
                continue;
            };
            // Two entries of one name would be one too many for umoci; ours has it in full.
            entry.annotations.remove(REF_NAME);
            // What is damaged has nothing to translate until it is mended.
            if let Ok(bytes) = self.read(entry)
                && let Ok(manifest) = Manifest::parse(&bytes)
            {
                let mut other = self.keep_translation(&manifest)?;
                let mut annotate =
                    |key: &str, value| other.annotations.insert(key.to_owned(), value);
                annotate(REF_NAME, name.to_string());
                annotate(ORIGINAL, entry.digest.to_string());
                translated.push(other);
            }
        }
        index.manifests.extend(translated);
        Ok(())
    }

    /// Sees to it that the translation of a manifest is among the blobs.
    fn keep_translation(&self, manifest: &Manifest) -> Result<Descriptor> {
        let bytes = serde_json::to_vec(&translation(manifest))?;
        let described = Descriptor::new(MANIFEST, Digest::of(&bytes), bytes.len() as u64);
        if self.read(&described).is_err() {
            let new = self.dir.join("images/translation");
            replace(&new, &bytes)?;
            std::fs::rename(&new, self.blob_path(&described.digest))
                .context("put the translation of a manifest in place")?;
        }
        Ok(described)
    }

    /// The entries for others, as they are in the index now.
    pub(crate) fn translations(&self) -> Result<Vec<Descriptor>> {
        let bytes = std::fs::read(self.dir.join("images/index.json"))?;
        let mut entries = Index::parse(&bytes)?.manifests;
        entries.retain(Descriptor::is_translation);
        Ok(entries)
    }
}

fn translation(manifest: &Manifest) -> Manifest {
    let layers = manifest.layers.iter().map(|layer| {
        let kind = match layer.media_type.ends_with("gzip") {
            true => format!("{LAYER}+gzip"),
            false => LAYER.to_owned(),
        };
        Descriptor::new(&kind, layer.digest, layer.size)
    });
    let config = &manifest.config;
    let config = Descriptor::new(CONFIG, config.digest, config.size);
    Manifest::new(config, layers.collect())
}
