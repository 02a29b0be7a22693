//! A bundle: a directory with a root file system and `config.json`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_spec::runtime::{Process, Spec};

/// A bundle, read once and checked.
#[derive(Debug)]
pub struct Bundle {
    /// The directory, absolute and without links.
    pub path: PathBuf,
    /// What will be `/` in the container, absolute and without links.
    pub rootfs: PathBuf,
    /// `config.json`.
    pub spec: Spec,
    /// The same as it was read.
    pub text: Vec<u8>,
}

impl Bundle {
    /// Reads and checks.
    ///
    /// # Errors
    /// todo
    pub fn load(path: &Path) -> Result<Bundle> {
        let path = path.canonicalize()?;
        let text = std::fs::read(path.join("config.json"))?;
        Self::reload(&text, &path)
    }

    pub(crate) fn reload(text: &[u8], path: &Path) -> Result<Bundle> {
        use anyhow::Context as _;
        let spec: Spec = serde_json::from_slice(text)?;
        let rootfs = spec.root().as_ref().context("root")?.path();
        let rootfs = path.join(rootfs).canonicalize()?;
        Ok(Bundle {
            path: path.to_owned(),
            rootfs,
            spec,
            text: text.to_vec(),
        })
    }
}

/// exec --process
///
/// # Errors
/// todo
pub fn read_process(path: &Path) -> Result<Process> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}
