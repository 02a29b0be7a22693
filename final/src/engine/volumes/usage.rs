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
    /// How many containers have it mounted, whether they run or not.
    pub containers: usize,
}

impl Volumes {
    /// What all volumes take up, by their names.
    ///
    /// # Errors
    /// The volumes or the containers cannot be read.
    pub fn uses(&self) -> Result<Vec<VolumeUse>> {
        let containers = Containers::open(&self.dirs)?.list()?;
        let volumes = self.list()?;
        let sizes = self.sizes(&volumes)?;
        let uses = volumes.into_iter().map(|volume| VolumeUse {
            size: sizes.get(&volume.name).copied().unwrap_or(0),
            containers: containers.iter().filter(|it| has(it, &volume.name)).count(),
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
