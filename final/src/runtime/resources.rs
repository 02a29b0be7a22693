//! `linux.resources`: what a container may use.

use anyhow::Result;
use cgroups::Lasting;
use oci_spec::runtime::LinuxResources;

/// What a container may use, as the kernel takes it.
#[derive(Debug, Default)]
pub(crate) struct Resources {}

impl Resources {
    pub(crate) fn plan(_resources: &LinuxResources) -> Result<Self> {
        Ok(Self {})
    }
    pub(crate) fn is_empty(&self) -> bool {
        true
    }
    pub(crate) fn controllers(&self) -> Vec<&str> {
        Vec::new()
    }
    pub(crate) fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        error
    }
    pub(crate) fn apply(&self, _cgroup: &Lasting) -> Result<()> {
        Ok(())
    }
}
