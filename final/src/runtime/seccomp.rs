//! seccomp.

use std::os::fd::OwnedFd;

use anyhow::Result;
use oci_spec::runtime::LinuxSeccomp;

#[derive(Debug)]
pub(crate) struct Filter {}

impl Filter {
    pub(crate) fn compile(_profile: &LinuxSeccomp) -> Result<Filter> {
        todo!()
    }

    pub(crate) fn install(&self) -> Result<Option<OwnedFd>> {
        todo!()
    }
}
