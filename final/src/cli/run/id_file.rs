//! `--cidfile`

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// `--cidfile`: made before the container, so that two of them cannot share it. Dropped, it goes,
/// unless an id was written to it.
pub(super) struct IdFile {
    path: PathBuf,
    file: File,
    written: bool,
}

impl IdFile {
    pub(super) fn new(path: &Path) -> Result<IdFile> {
        let shown = path.display();
        let file = match File::create_new(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
                "container ID file found, make sure the other container isn't running or delete \
                 {shown}"
            ),
            file => {
                file.with_context(|| format!("failed to create the container ID file {shown}"))?
            }
        };
        Ok(IdFile {
            path: path.to_owned(),
            file,
            written: false,
        })
    }

    pub(super) fn write(mut self, id: &str) -> Result<()> {
        let written = self.file.write_all(id.as_bytes());
        written.with_context(|| {
            format!(
                "failed to write the container ID to the file {}",
                self.path.display()
            )
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = fs::remove_file(&self.path);
        }
    }
}
