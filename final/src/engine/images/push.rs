//! What happens in a push: everything that the manifest names has to be there before it.

use anyhow::{Context, Result};
use images::{Descriptor, Digest, ImageName, Manifest};

use super::at_once;
use super::{Images, Report, Stage};
use crate::registry::{Blob, Outcome, Registry, Upload};

/// Layers that are sent side by side; docker's default as well.
const AT_ONCE: usize = 5;

impl Images {
    /// Sends the image of a name to its registry, and returns the manifest's digest and size.
    ///
    /// # Errors
    /// There is no such image, or the registry refuses it.
    pub fn push(
        &self,
        registry: &Registry,
        name: &ImageName,
        report: Report<'_>,
    ) -> Result<Descriptor> {
        name.tag()
            .context("cannot push a digest reference; give a tag")?;
        let image = self.find(&name.to_string())?;
        let described = self.store.manifest_of(name)?;
        let bytes = self.store.read(&described)?;
        let manifest = Manifest::parse(&bytes)?;

        for layer in &manifest.layers {
            report(&layer.digest, Stage::Preparing);
        }
        at_once::each(&manifest.layers, AT_ONCE, |layer, _| {
            let sent = self.send(registry, name, layer, report);
            let stage = sent.with_context(|| format!("push the layer {}", layer.digest))?;
            report(&layer.digest, stage);
            Ok(())
        })?;
        self.send(registry, name, &manifest.config, &|_, _| ())
            .context("push the image's config")?;

        let (path, reference) = (name.path(), name.reference());
        let there = registry.put_manifest(path, &reference, &described.media_type, &bytes)?;
        self.store.tag(&image, name, Some(there))?;
        self.tell("push", &name.to_string(), &name.repository());
        Ok(described)
    }

    /// Sees to it that the registry has a blob, with as little effort as possible.
    fn send(
        &self,
        registry: &Registry,
        name: &ImageName,
        blob: &Descriptor,
        report: Report<'_>,
    ) -> Result<Stage> {
        let Descriptor { digest, size, .. } = *blob;
        let other = self.elsewhere(name, &digest)?;
        let upload = Upload {
            blob: Blob { digest, size },
            file: &self.store.blob(&digest)?,
            mount_from: other.as_deref(),
            sent: &|done| report(&digest, Stage::Pushing { done, total: size }),
            pausing: &|pause| report(&digest, Stage::Retrying { pause }),
        };
        Ok(match (registry.push_blob(name.path(), &upload)?, other) {
            (Outcome::Present, _) => Stage::LayerExists,
            (Outcome::Mounted, Some(other)) => Stage::MountedFrom(other),
            _ => Stage::Pushed,
        })
    }

    /// Another repository of the registry that is likely to have a blob: one from which an image
    /// with it came, or to which one went.
    fn elsewhere(&self, name: &ImageName, blob: &Digest) -> Result<Option<String>> {
        for image in self.store.images()? {
            let manifest = image.manifest();
            let mut its = manifest.layers.iter().chain([&manifest.config]);
            if its.all(|it| it.digest != *blob) {
                continue;
            }
            let mut there = image.repo_digests().iter();
            let other = |known: &&ImageName| {
                known.registry() == name.registry() && known.path() != name.path()
            };
            if let Some(known) = there.find(other) {
                return Ok(Some(known.path().to_owned()));
            }
        }
        Ok(None)
    }
}
