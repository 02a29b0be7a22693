//! What is kept of a container on disk, and who may change it.
//!
//! ```text
//! /run/minirunc/          the runtime's root
//! └── web/                a container: locked while its state changes
//!     ├── config.json     the bundle's, as it was when the container was created
//!     ├── state.json      Record: written before the first process, and when it is complete
//!     └── start.sock      the named gate; gone once the container was started
//! ```

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Mode, OFlags, openat, renameat, unlinkat};
use serde::{Deserialize, Serialize};

use super::Id;
use super::group::SavedGroup;

/// The named gate's name.
pub(crate) const GATE: &str = "start.sock";
const RECORD: &str = "state.json";
const CONFIG: &str = "config.json";

/// What does not change in a container's life, once it is created.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of the runtime-spec, as the bundle says.
    pub oci_version: String,
    /// The first process, as this host numbers it; 0 until it is complete.
    pub pid: i32,
    /// When that process was started, in clock ticks since boot: a pid without
    /// it may be another process by now (proc_pid_stat(5)).
    pub start_time: u64,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// What is `/` in the container.
    pub rootfs: PathBuf,
    /// When the container was created.
    pub created: Timestamp,
    /// The user who created it.
    pub owner: u32,
    /// The bundle's annotations.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub annotations: HashMap<String, String>,
    /// Whether pid 1 is an init, and the command its child.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) init: bool,
    /// The container's cgroup, where it has one.
    pub(crate) cgroup: Option<SavedGroup>,
}

/// A container's directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct Home {
    directory: File,
    path: PathBuf,
    /// Whether it is removed with what is in it when this is dropped.
    temporary: bool,
}

impl Home {
    /// Makes the directory of a new container. Until [`Home::keep`] it goes
    /// when something fails.
    pub(crate) fn make(root: &Path, id: &Id, config: &[u8]) -> Result<Home> {
        let mut private = DirBuilder::new();
        private.mode(0o700);
        private
            .recursive(true)
            .create(root)
            .with_context(|| format!("make the runtime's root {}", root.display()))?;
        let path = root.join(id.as_str());
        match private.recursive(false).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(
                "container with id exists: {id}; `minirunc delete {id}` removes it once it has stopped"
            ),
            made => made.with_context(|| format!("make {}", path.display()))?,
        }
        let mut home = Home::look(root, id)?;
        home.temporary = true;
        home.lock()?;
        home.write(CONFIG, config)?;
        Ok(home)
    }

    /// Opens the directory of a container that is there, and waits until
    /// nobody else changes it.
    pub(crate) fn open(root: &Path, id: &Id) -> Result<Home> {
        loop {
            let home = Home::look(root, id)?;
            home.lock()?;
            // While we waited it may have been deleted, and another one made.
            if home.is_current()? {
                return Ok(home);
            }
        }
    }

    pub(crate) fn is_current(&self) -> Result<bool> {
        let ours = self
            .directory
            .metadata()
            .context("stat a container's directory")?;
        let there = fs::metadata(&self.path);
        Ok(there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())))
    }

    /// The same for who changes nothing, and must not wait: a hook of the
    /// container's own may ask for its state.
    pub(crate) fn look(root: &Path, id: &Id) -> Result<Home> {
        let path = root.join(id.as_str());
        let directory = File::open(&path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => anyhow!("container does not exist: {id}"),
            _ => anyhow!(error).context(format!("open {}", path.display())),
        })?;
        Ok(Home {
            directory,
            path,
            temporary: false,
        })
    }

    pub(crate) fn lock(&self) -> Result<()> {
        self.directory
            .lock()
            .with_context(|| format!("lock {}", self.path.display()))
    }

    pub(crate) fn unlock(&self) -> Result<()> {
        self.directory
            .unlock()
            .with_context(|| format!("unlock {}", self.path.display()))
    }

    /// Child: closes its copy of the descriptor, which would hold the lock for as
    /// long as it waits to be started, whatever becomes of us (flock(2)).
    pub(crate) fn close_copy(&self) -> Result<()> {
        nix::unistd::close(self.directory.as_raw_fd()).context("close the container's directory")
    }

    pub(crate) fn keep(&mut self) {
        self.temporary = false;
    }

    /// Puts a file into the directory, the whole of it or nothing.
    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let written = || -> std::io::Result<()> {
            let new = format!("{name}.new");
            let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
            let mut file = File::from(openat(
                &self.directory,
                new.as_str(),
                flags,
                Mode::RUSR | Mode::WUSR,
            )?);
            file.write_all(content)?;
            Ok(renameat(
                &self.directory,
                new.as_str(),
                &self.directory,
                name,
            )?)
        };
        written().with_context(|| format!("write {}", self.path.join(name).display()))
    }

    pub(crate) fn write_record(&self, record: &Record) -> Result<()> {
        self.write(RECORD, &serde_json::to_vec(record)?)
    }

    /// `None`: the container's creation has just begun, or was ended at once.
    pub(crate) fn read_record(&self) -> Result<Option<Record>> {
        let path = self.path.join(RECORD);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.with_context(|| format!("read {}", path.display()))?,
        };
        let record = serde_json::from_slice(&text);
        record.map(Some).with_context(|| {
            format!(
                "{} is damaged; `minirunc delete --force` removes the container",
                path.display()
            )
        })
    }

    /// The bundle's configuration, as it was when the container was created.
    pub(crate) fn config(&self) -> Result<Vec<u8>> {
        let path = self.path.join(CONFIG);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    /// Whether the container waits to be started.
    pub(crate) fn has_gate(&self) -> bool {
        rustix::fs::accessat(
            &self.directory,
            GATE,
            rustix::fs::Access::EXISTS,
            AtFlags::empty(),
        )
        .is_ok()
    }

    pub(crate) fn remove_gate(&self) -> Result<()> {
        unlinkat(&self.directory, GATE, AtFlags::empty()).context("remove the container's gate")
    }

    /// Removes the directory.
    pub(crate) fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }
}

impl AsFd for Home {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = self.remove()
        {
            tracing::warn!("a container's directory stays behind: {error:#}");
        }
    }
}

/// When the process `pid` was started, in clock ticks since boot; `None` where
/// there is none, or only its exit status is left (proc_pid_stat(5)).
pub(crate) fn start_time(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    let text = match fs::read_to_string(&path) {
        Err(error) if is_gone(&error) => return Ok(None),
        text => text.with_context(|| format!("read {path}"))?,
    };
    // The second field is the program's name, in brackets, and may hold anything.
    let fields: Vec<&str> = text
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    let (Some(state), Some(started)) = (fields.first(), fields.get(19)) else {
        bail!("{path} is not what proc_pid_stat(5) says");
    };
    if ["Z", "X"].contains(state) {
        return Ok(None);
    }
    let started = started.parse().with_context(|| format!("read {path}"))?;
    ensure!(started > 0, "{path} gives no start time");
    Ok(Some(started))
}

fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}
