//! `system df`: what takes up the disk, and how much of that could be freed.

use std::collections::{BTreeSet, HashMap};

use anyhow::Result;
use images::{Digest, Image, Store};

use super::Containers;
use crate::engine::volumes::{VolumeUse, Volumes};
use crate::state::Container;

/// What takes up the disk.
#[derive(Debug)]
pub struct Disk {
    /// The images.
    pub images: Vec<ImageUse>,
    /// The bytes in the files of all layers, each counted once.
    pub layers: u64,
    /// Of these, those of layers that no container needs.
    pub spare_layers: u64,
    /// The containers, and the bytes in the files that each has written.
    pub containers: Vec<(Container, u64)>,
    /// The volumes.
    pub volumes: Vec<VolumeUse>,
}

/// What an image takes up.
#[derive(Debug)]
pub struct ImageUse {
    /// The image.
    pub image: Image,
    /// Bytes that it shares with other images.
    pub shared: u64,
    /// How many containers were made of it.
    pub containers: usize,
}

impl Containers {
    /// What takes up the disk now.
    ///
    /// # Errors
    /// The store or the containers cannot be read.
    pub fn disk(&self) -> Result<Disk> {
        let containers = self.list()?;
        let images = self.image_uses(&containers)?;
        let store = Store::open(&self.dirs.data)?;
        let sum = |layers: BTreeSet<&Digest>| -> u64 {
            layers
                .into_iter()
                .map(|layer| store.layer_size(layer))
                .sum()
        };
        let all = images.iter().flat_map(|it| layers_of(&it.image)).collect();
        let in_use = images.iter().filter(|it| it.containers > 0);
        let in_use = in_use.flat_map(|it| layers_of(&it.image)).collect();
        let layers = sum(all);
        let spare_layers = layers.saturating_sub(sum(in_use));
        let volumes = Volumes::open(&self.dirs).uses()?;
        let sizes = self.sizes(&containers)?;
        let sized = containers.into_iter().map(|container| {
            let size = sizes.get(&container.id).copied().unwrap_or(0);
            (container, size)
        });
        Ok(Disk {
            layers,
            spare_layers,
            containers: sized.collect(),
            volumes,
            images,
        })
    }

    fn image_uses(&self, containers: &[Container]) -> Result<Vec<ImageUse>> {
        let images = self.images()?;
        let mut users: HashMap<&Digest, usize> = HashMap::new();
        for image in images.all() {
            for layer in layers_of(image).collect::<BTreeSet<_>>() {
                *users.entry(layer).or_default() += 1;
            }
        }
        let store = Store::open(&self.dirs.data)?;
        let uses = images.all().iter().map(|image| {
            let shared = layers_of(image).filter(|layer| users.get(*layer) > Some(&1));
            let id = image.id().to_string();
            ImageUse {
                shared: shared.map(|layer| store.layer_size(layer)).sum(),
                containers: containers.iter().filter(|it| it.image == id).count(),
                image: image.clone(),
            }
        });
        Ok(uses.collect())
    }
}

fn layers_of(image: &Image) -> impl Iterator<Item = &Digest> {
    image.document().rootfs.diff_ids.iter()
}
