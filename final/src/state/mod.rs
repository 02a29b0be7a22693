//! What is kept of a container on disk, whatever becomes of those who work on it.
//!
//! ```text
//! DATA/containers/ID/          the container; locked (flock) by whoever changes its state
//!     state.json                 what it is to be, and where it is in its life
//!     upper/ work/ merged/       its writable layer (step 5)
//!     config.json                its bundle, written at each start
//!     hosts hostname resolv.conf mounted over the image's
//!     ID-json.log                what it wrote
//! DATA/volumes/NAME/           a volume
//! DATA/networks/ID.json        a network
//! DATA/names/NAME              holds the id of who is called that
//! RUN/events.json              what happened
//! RUN/containers/ID/           what a reboot may forget: the shim's lock and its socket
//!     ended.json                 how it ended, as long as state.json cannot be written
//! RUN/runtime/ID/              the runtime's
//! ```
//!
//! A state file is replaced, never changed: whoever reads it needs no lock and finds the old one or
//! the new. Whether a shim lives is not written anywhere, for nobody could write that it died: it
//! holds a lock, which goes with it.

mod discard;
mod host;
pub mod journal;
mod last_word;
mod life;
mod locked;
mod names;
mod networks;
mod volumes;
mod wanted;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use host::{Bind, Device, HostConfig, LogConfig, Port, Restart, Seccomp, Ulimit, Wanted};
pub use life::{Endpoint, Life, Status};
pub use locked::Locked;
pub use names::{Names, check_name, is_name};
pub use networks::{Changing, Network};
pub use volumes::{Alone, FileSystem, LocalVolume, begin_creation, remove_anonymous, volume_place};
pub use wanted::{Config, Recursion, Volume};

/// The version of the files of state that is written.
pub const VERSION: u32 = 1;

/// A container: what it is to be, and where it is in its life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Container {
    /// The version of the file's form.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// When it was created.
    pub created: Timestamp,
    /// The image's id: `sha256:…`.
    pub image: String,
    /// What it runs.
    pub config: Config,
    /// What the host gives it, and keeps from it.
    pub host: HostConfig,
    /// What is mounted into it.
    pub mounts: Vec<Volume>,
    /// Where it is in its life.
    pub life: Life,
}

impl Container {
    /// The id as people see it: twelve digits.
    #[must_use]
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// The directories of one container.
#[derive(Clone, Debug)]
pub struct Places {
    /// What outlives a reboot.
    pub data: PathBuf,
    /// What a reboot may forget.
    pub run: PathBuf,
    /// The root of the runtime's own state, for all containers.
    pub runtime: PathBuf,
}

impl Places {
    /// Those of the container `id`.
    #[must_use]
    pub fn of(dirs: &Dirs, id: &str) -> Places {
        Places {
            data: dirs.data.join("containers").join(id),
            run: dirs.run.join("containers").join(id),
            runtime: dirs.run.join("runtime"),
        }
    }

    /// The state file.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.data.join("state.json")
    }

    /// Where the shim mounts a part of a volume, for the nth of its mounts.
    #[must_use]
    pub fn subpath(&self, n: usize) -> PathBuf {
        self.data.join(format!("subpath-{n}"))
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        let id = self.data.file_name().unwrap_or_default();
        self.data.join(format!("{}-json.log", id.to_string_lossy()))
    }

    /// Removes what a reboot may forget, if it is there.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn forget(&self) -> Result<()> {
        remove_directory(&self.run)
    }

    /// Reads the state as it is now; it may be another in a moment.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn read(&self) -> Result<Container> {
        let path = self.state();
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let help = "`minidocker system check` says what can be done";
        parse(&text, &path, help)
    }
}

/// What a file of state says, if it is of the version that we know.
fn parse<T: DeserializeOwned>(text: &[u8], path: &Path, help: &str) -> Result<T> {
    let shown = path.display();
    let damaged = || format!("{shown} is damaged; {help}");
    // Of another version the rest may not look like ours.
    let version = version(text).with_context(damaged)?;
    ensure!(
        version == VERSION,
        "{shown} is of version {version}, and this minidocker knows version {VERSION}"
    );
    serde_json::from_slice(text).with_context(damaged)
}

/// The version that a file of state names.
///
/// # Errors
/// It is damaged.
pub fn version(text: &[u8]) -> serde_json::Result<u32> {
    #[derive(Deserialize)]
    struct Form {
        version: u32,
    }
    serde_json::from_slice(text).map(|form: Form| form.version)
}

/// Nothing is called so: the sentence that says it.
#[derive(Debug)]
pub struct Missing(pub String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// No container is.
    #[must_use]
    pub fn container(what: &str) -> Missing {
        Missing(format!("No such container: {what}"))
    }
}

/// The ids of all containers that are there, in no order.
///
/// # Errors
/// The directory cannot be read.
pub fn ids(dirs: &Dirs) -> Result<Vec<String>> {
    // Those of the steps have shorter names.
    ids_in(&dirs.data.join("containers"))
}

/// The names in a directory that are ids, in no order; none where there is no directory.
///
/// # Errors
/// It cannot be read.
pub fn ids_in(place: &Path) -> Result<Vec<String>> {
    let mut names = names_in(place)?;
    names.retain(|name| is_id(name));
    Ok(names)
}

/// All names in a directory that are text.
fn names_in(place: &Path) -> Result<Vec<String>> {
    let list = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(place)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    };
    match list() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        names => names.with_context(|| format!("list {}", place.display())),
    }
}

/// Removes a directory and all that is in it, if it is there.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("remove {}", path.display())),
    }
}

/// Whether the open file is the one of that name.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        there => there.map(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())),
    }
}

/// Whether the text is a whole id.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 64
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// 64 hexadecimal digits that nobody has had before.
///
/// # Errors
/// The kernel gives no random numbers.
pub fn new_id() -> Result<String> {
    let mut bytes = [0; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .context("read random numbers for an id")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
