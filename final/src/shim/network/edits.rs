//! hosts and resolv.conf of a container that runs. They are mounted into it, each by itself, so that
//! a new file in the place of the old one would never be seen there: the text is changed, in the
//! file that is mounted. What the container wrote into it stays.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What was changed, and how it was before.
#[derive(Debug, Default)]
pub struct Edits(Vec<(PathBuf, String)>);

impl Edits {
    /// In hosts, takes lines out and adds others.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn hosts(&mut self, directory: &Path, old: &[String], new: &[String]) -> Result<()> {
        let path = directory.join("hosts");
        let before = read(&path)?;
        let kept = before
            .lines()
            .filter(|line| !old.iter().any(|old| old == line));
        let lines = kept.chain(new.iter().map(String::as_str));
        let after = lines.map(|line| format!("{line}\n")).collect::<String>();
        self.replace(path, before, &after)
    }

    /// Replaces resolv.conf, unless somebody wrote another one than `old`. Returns whether it did.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn resolv_conf(&mut self, directory: &Path, old: &str, new: &str) -> Result<bool> {
        let path = directory.join("resolv.conf");
        let before = read(&path)?;
        if before != old {
            return Ok(false);
        }
        self.replace(path, before, new)?;
        Ok(true)
    }

    /// Makes all as it was.
    pub fn undo(self) {
        for (path, before) in self.0.into_iter().rev() {
            if let Err(error) = write(&path, &before) {
                tracing::warn!("{error:#}");
            }
        }
    }

    fn replace(&mut self, path: PathBuf, before: String, after: &str) -> Result<()> {
        if before == after {
            return Ok(());
        }
        let written = write(&path, after);
        self.0.push((path, before));
        written
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whoever reads meanwhile finds no empty file.
fn write(path: &Path, text: &str) -> Result<()> {
    let write = || {
        let file = File::options().write(true).open(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)
    };
    write().with_context(|| format!("write {}", path.display()))
}
