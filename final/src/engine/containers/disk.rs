//! `system df`: what takes up the disk, and how much of that could be freed.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};

use anyhow::{Context, Result};
use images::{Digest, Image, Store};
use namespaces::as_root;

use super::Containers;
use crate::state::{Container, volume_place};

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

/// What a volume takes up.
#[derive(Debug)]
pub struct VolumeUse {
    /// What it is called.
    pub name: String,
    /// Bytes in its files.
    pub size: u64,
    /// How many containers have it mounted, whether they run or not.
    pub containers: usize,
    /// Whether it was made for one container, and nobody gave it a name.
    pub anonymous: bool,
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
        let volumes = self.volumes(&containers)?;
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

    /// All volumes, by their names.
    fn volumes(&self, containers: &[Container]) -> Result<Vec<VolumeUse>> {
        let entries = fs::read_dir(self.dirs.data.join("volumes"))
            .into_iter()
            .flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        let trees: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), volume_place(&self.dirs, name)))
            .collect();
        let sizes = super::usage::measure(&trees)?;
        let volumes = names.into_iter().map(|name| {
            let mounted = |container: &&Container| {
                let mut mounts = container.mounts.iter();
                mounts.any(|mount| mount.r#type == "volume" && mount.name == name)
            };
            VolumeUse {
                size: sizes.get(&name).copied().unwrap_or(0),
                containers: containers.iter().filter(mounted).count(),
                anonymous: crate::state::is_id(&name),
                name,
            }
        });
        Ok(volumes.collect())
    }

    /// Removes the volumes that nobody gave a name and no container has. Returns their names and
    /// the bytes that were in them.
    ///
    /// # Errors
    /// They cannot be listed or removed.
    pub fn prune_volumes(&self) -> Result<(Vec<String>, u64)> {
        // So that none of them was made just now, for a container that is about to be.
        let creating = File::open(self.dirs.data.join("names")).context("open the names")?;
        creating.lock().context("lock the names")?;
        let mut spare = self.volumes(&self.list()?)?;
        spare.retain(|volume| volume.anonymous && volume.containers == 0);
        for volume in &spare {
            let place = volume_place(&self.dirs, &volume.name);
            as_root(|| {
                let what = || format!("remove {}", place.display());
                fs::remove_dir_all(&place).with_context(what)
            })?;
        }
        let freed = spare.iter().map(|volume| volume.size).sum();
        Ok((spare.into_iter().map(|volume| volume.name).collect(), freed))
    }
}

fn layers_of(image: &Image) -> impl Iterator<Item = &Digest> {
    image.document().rootfs.diff_ids.iter()
}
