//! `tmpcopyup`: a tmpfs that begins with the files that it covers.

use std::os::fd::OwnedFd;

use anyhow::{Result, bail};

/// Copies everything in the directory `from` to the directory `to`.
pub(crate) fn copy(_from: &OwnedFd, _to: &OwnedFd) -> Result<()> {
    bail!("not yet")
}
