//! `docker export`: a container's files in a tar archive, as if it had one layer.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal};
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use images::Packer;

use super::Containers;
use super::view::Sight;
use crate::engine::images::replace;
use crate::state::journal::{self, Event};

/// Large enough that a system call moves much more than it costs.
const BUFFER: usize = 256 << 10;

impl Containers {
    /// Writes the container's own files to an archive, or to standard output; what is mounted over
    /// them stays out. The same files give the same archive.
    ///
    /// # Errors
    /// There is no such container, its files cannot be read, or the archive not be written: then it
    /// is as it was. Standard output is a terminal.
    pub fn export(&self, what: &str, output: Option<&Path>) -> Result<()> {
        let container = self.find(what)?;
        journal::tell(&self.dirs, &Event::of(&container, "export"));
        if let Some(path) = output {
            return replace(path, |file| self.export_to(what, file))
                .with_context(|| format!("export to {}", path.display()));
        }
        ensure!(
            !io::stdout().is_terminal(),
            "cowardly refusing to save to a terminal. Use the -o flag or redirect"
        );
        let out = io::stdout().as_fd().try_clone_to_owned()?;
        self.export_to(what, &File::from(out))
    }

    fn export_to(&self, what: &str, to: &File) -> Result<()> {
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
