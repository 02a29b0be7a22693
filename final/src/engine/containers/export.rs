//! `docker export`: a container's files in a tar archive, as if it had one layer.

use std::fs::File;
use std::io::BufWriter;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use images::Packer;

use super::Containers;
use super::view::Sight;

/// Large enough that a system call moves much more than it costs.
const BUFFER: usize = 256 << 10;

impl Containers {
    /// Writes the container's own files to an open file; what is mounted over them stays out. The
    /// same files give the same archive.
    ///
    /// # Errors
    /// There is no such container, its files cannot be read, or the archive not be written.
    pub fn export(&self, what: &str, to: &File) -> Result<()> {
        let view = self.view(what, Sight::Layers)?;
        view.visit(&[to.as_fd()], |tree| {
            let mut to = BufWriter::with_capacity(BUFFER, to);
            let mut packer = Packer::new(&mut to, &tree.proc);
            let root = tree.root.try_clone().context("duplicate a descriptor")?;
            packer.add(root, b"")?;
            packer.finish()?;
            Ok(())
        })
    }
}
