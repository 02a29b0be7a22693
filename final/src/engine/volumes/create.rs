//! `volume create`: a directory with a name.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Volumes;
use crate::state::{LocalVolume, begin_creation};

impl Volumes {
    /// Makes a volume, unless one of that name is there: then it is that one. Without a name it
    /// gets one of 64 digits.
    ///
    /// # Errors
    /// The name is none, the options are not to be had here, the volume that is there has others,
    /// or the disk is full.
    pub fn create(
        &self,
        name: Option<&str>,
        labels: BTreeMap<String, String>,
        options: BTreeMap<String, String>,
    ) -> Result<LocalVolume> {
        let volume = LocalVolume::new(name, labels, options)?;
        let _creating = begin_creation(&self.dirs)?;
        volume.ensure(&self.dirs)
    }
}
