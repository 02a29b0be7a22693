//! What will be the container's root file system.

use anyhow::Result;

use super::Bundle;

#[derive(Debug)]
pub(crate) struct RootPlan {
    root: rootfs::Root,
}

impl RootPlan {
    pub(crate) fn plan(bundle: &Bundle) -> Result<RootPlan> {
        Ok(RootPlan {
            root: rootfs::Root::new(bundle.rootfs.clone()),
        })
    }

    pub(crate) fn enter(&self) -> Result<()> {
        rootfs::enter(&self.root)
    }
}

pub(crate) fn propagation(_linux: &oci_spec::runtime::Linux) -> Result<nix::mount::MsFlags> {
    Ok(nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC)
}
