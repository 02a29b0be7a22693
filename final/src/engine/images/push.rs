//! What happens in a push: everything that the manifest names has to be there before it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use images::{Descriptor, Digest, ImageName, Manifest};

use super::{Images, Report, Stage};
use crate::registry::Registry;

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
        let next = AtomicUsize::new(0);
        let work = || -> Result<()> {
            while let Some(layer) = manifest.layers.get(next.fetch_add(1, Ordering::Relaxed)) {
                let stage = self
                    .send(registry, name, layer, report)
                    .with_context(|| format!("push the layer {}", layer.digest))?;
                report(&layer.digest, stage);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..AT_ONCE.min(manifest.layers.len()))
                .map(|_| scope.spawn(work))
                .collect();
            let panicked = |_| bail!("a thread that sent a layer panicked");
            let ended = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(panicked));
            ended
                .collect::<Vec<_>>()
                .into_iter()
                .collect::<Result<()>>()
        })?;
        self.send(registry, name, &manifest.config, &|_, _| ())
            .context("push the image's config")?;

        let (path, reference) = (name.path(), name.reference());
        let there = registry.put_manifest(path, &reference, &described.media_type, &bytes)?;
        self.store.tag(&image, name, Some(there))?;
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
        let (path, total) = (name.path(), blob.size);
        if registry.has_blob(path, &blob.digest)? {
            return Ok(Stage::LayerExists);
        }
        for other in self.elsewhere(name, &blob.digest)? {
            if registry.mount(path, &blob.digest, &other)? {
                return Ok(Stage::MountedFrom(other));
            }
        }
        let open = || self.store.blob(&blob.digest);
        registry.upload(path, blob, open, &|done| {
            report(&blob.digest, Stage::Pushing { done, total });
        })?;
        Ok(Stage::Pushed)
    }

    /// The other repositories of a registry that are likely to have a blob: those from which an
    /// image with it came, or to which one went.
    fn elsewhere(&self, name: &ImageName, blob: &Digest) -> Result<BTreeSet<String>> {
        let mut paths = BTreeSet::new();
        for image in self.store.images()? {
            let its = image
                .manifest()
                .layers
                .iter()
                .chain([&image.manifest().config]);
            if its.map(|it| it.digest).any(|it| it == *blob) {
                let there = image.repo_digests().iter();
                let same = there.filter(|known| known.registry() == name.registry());
                paths.extend(same.map(|known| known.path().to_owned()));
            }
        }
        paths.remove(name.path());
        Ok(paths)
    }
}
