//! How much of the disk volumes use, and who uses them.

use std::collections::HashMap;

use anyhow::Result;

use super::Volumes;
use crate::engine::containers::{Containers, usage};
use crate::state::{Container, LocalVolume};

/// What a volume takes up.
#[derive(Debug)]
pub struct VolumeUse {
    /// The volume.
    pub volume: LocalVolume,
    /// Bytes in its files.
    pub size: u64,
    /// How many containers have it.
    pub containers: usize,
}

impl Volumes {
    /// All volumes by their names, and how many containers have each, whether they run or not.
    ///
    /// # Errors
    /// The volumes or the containers cannot be read.
    pub fn counted(&self) -> Result<Vec<(LocalVolume, usize)>> {
        let containers = Containers::open(&self.dirs)?.list()?;
        let volumes = self.list()?.into_iter();
        let count = |name: &str| containers.iter().filter(|it| has(it, name)).count();
        Ok(volumes
            .map(|volume| {
                let count = count(&volume.name);
                (volume, count)
            })
            .collect())
    }

    /// The same, with what they take up.
    ///
    /// # Errors
    /// As [`Volumes::counted`].
    pub fn uses(&self) -> Result<Vec<VolumeUse>> {
        let (volumes, counts): (Vec<_>, Vec<_>) = self.counted()?.into_iter().unzip();
        let sizes = self.sizes(&volumes)?;
        let uses = volumes
            .into_iter()
            .zip(counts)
            .map(|(volume, containers)| VolumeUse {
                size: sizes.get(&volume.name).copied().unwrap_or(0),
                containers,
                volume,
            });
        Ok(uses.collect())
    }

    /// The bytes of the files in volumes, by the volumes' names.
    pub(super) fn sizes(&self, volumes: &[LocalVolume]) -> Result<HashMap<String, u64>> {
        let trees = volumes
            .iter()
            .map(|volume| (volume.name.clone(), self.mountpoint(volume)));
        usage::measure(&trees.collect::<Vec<_>>())
    }
}

fn has(container: &Container, volume: &str) -> bool {
    let mut mounts = container.mounts.iter();
    mounts.any(|mount| mount.name == volume)
}
