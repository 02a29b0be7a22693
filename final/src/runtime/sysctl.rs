//! Kernel parameters of the container's own namespaces.

use std::os::fd::BorrowedFd;

use anyhow::Result;
use oci_spec::runtime::Linux;

#[derive(Debug)]
pub(crate) struct Sysctls {}

impl Sysctls {
    pub(crate) fn plan(_linux: &Linux) -> Result<Sysctls> {
        Ok(Sysctls {})
    }

    pub(crate) fn write(&self, _proc: BorrowedFd) -> Result<()> {
        Ok(())
    }
}
