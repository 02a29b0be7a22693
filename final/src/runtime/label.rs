//! AppArmor profile and SELinux label of a process.

use std::os::fd::BorrowedFd;

use anyhow::Result;
use oci_spec::runtime::Process;

#[derive(Debug)]
pub(crate) struct Label {}

impl Label {
    pub(crate) fn plan(_process: &Process) -> Result<Label> {
        Ok(Label {})
    }

    pub(crate) fn write(&self, _proc: BorrowedFd) -> Result<()> {
        Ok(())
    }
}
