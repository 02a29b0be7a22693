//! The layer between an image's own and the one that a container writes to: docker's init layer.
//!
//! ```text
//! upper        what the container wrote     diff and commit see this
//! init layer   empty places to mount upon   DATA/init/HEX, one for each image
//! lower[n]     the image's last layer
//! …
//! ```
//!
//! The runtime mounts `/proc` and its like, and the network's files over `/etc/hosts`. Where an image
//! has no such places it would make them, and then they would seem to be the container's work.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use images::Overlay;
use namespaces::Isolation;
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

use crate::state::is_id;

/// What an image need not have.
enum Place {
    Directory,
    /// An empty one.
    File,
    /// To there.
    Link(&'static str),
}

/// Docker's list.
const PLACES: [(&str, Place); 10] = [
    ("proc", Place::Directory),
    ("sys", Place::Directory),
    ("dev/pts", Place::Directory),
    ("dev/shm", Place::Directory),
    ("dev/console", Place::File),
    ("etc/hosts", Place::File),
    ("etc/hostname", Place::File),
    ("etc/resolv.conf", Place::File),
    ("etc/mtab", Place::Link("/proc/mounts")),
    (".dockerenv", Place::File),
];

const MODE: u32 = 0o755;

/// The init layer of the image with the id `image` (`sha256:…`), whose own layers `overlay` names.
/// It is made if this is the first of the image's containers.
///
/// # Errors
/// The layer cannot be made.
pub fn ensure(dirs: &Dirs, image: &str, overlay: &Overlay) -> Result<PathBuf> {
    let name = image.strip_prefix("sha256:").unwrap_or(image);
    ensure!(is_id(name), "{image:?} is not an image's id");
    let all = dirs.data.join("init");
    let layer = all.join(name);
    if layer.is_dir() {
        return Ok(layer);
    }
    let what = || format!("make the init layer {}", layer.display());
    private(&all).with_context(what)?;
    // No sweep comes between.
    let lock = File::open(&all).with_context(what)?;
    lock.lock_shared().with_context(what)?;
    // What is mounted meanwhile is nobody's but that process's, and goes with it.
    let isolation = Isolation {
        namespaces: CloneFlags::CLONE_NEWNS,
        ..Isolation::users_only()?
    };
    let made = namespaces::apart(&isolation, || make(&all, &layer, overlay).map(|()| 0));
    ensure!(made.with_context(what)? == 0, "interrupted");
    Ok(layer)
}

fn make(all: &Path, layer: &Path, overlay: &Overlay) -> Result<()> {
    let aside = Aside::make(all, layer.file_name().unwrap_or_default())?;
    aside.fill(overlay)?;
    match fs::rename(aside.0.join("upper"), layer) {
        // Another container's shim was faster, and its work is as good.
        Err(_) if layer.is_dir() => Ok(()),
        renamed => Ok(renamed?),
    }
}

/// Removes the init layers of images that are gone, and what somebody left who was killed.
///
/// # Errors
/// One cannot be removed.
pub fn sweep(dirs: &Dirs) -> Result<()> {
    let all = dirs.data.join("init");
    let lock = match File::open(&all) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        lock => lock.with_context(|| format!("open {}", all.display()))?,
    };
    match lock.try_lock() {
        // One is being made; what there is to remove waits for the next sweep.
        Err(TryLockError::WouldBlock) => return Ok(()),
        locked => locked.with_context(|| format!("lock {}", all.display()))?,
    }
    for entry in fs::read_dir(&all).with_context(|| format!("list {}", all.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        // A container that is there keeps its image's configuration there.
        let image = dirs.data.join("images/blobs/sha256").join(&name);
        let is_needed = name.to_str().is_some_and(is_id) && image.exists();
        if !is_needed {
            let path = entry.path();
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn private(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Where a layer is made, out of the others' sight; it goes with this.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!("{} stays behind: {error}", self.0.display());
        }
    }
}

impl Aside {
    fn make(all: &Path, name: &OsStr) -> Result<Aside> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let name = format!(".{}.{}.{now}", name.display(), std::process::id());
        let aside = Aside(all.join(name));
        for part in ["upper", "work", "merged"] {
            private(&aside.0.join(part))?;
        }
        // It becomes a container's root, which others than its owner may enter.
        fs::set_permissions(aside.0.join("upper"), fs::Permissions::from_mode(MODE))?;
        Ok(aside)
    }

    /// Makes the places over the image's own files, and so as changes of them.
    fn fill(&self, overlay: &Overlay) -> Result<()> {
        let overlay = Overlay {
            upper: self.0.join("upper"),
            work: self.0.join("work"),
            target: self.0.join("merged"),
            ..overlay.clone()
        };
        overlay.mount()?;
        let made = make_places(&overlay.target);
        umount2(&overlay.target, MntFlags::UMOUNT_NOFOLLOW).context("unmount it")?;
        made
    }
}

fn make_places(root: &Path) -> Result<()> {
    for (path, place) in &PLACES {
        make_place(root, Path::new(path), place).with_context(|| format!("make /{path}"))?;
    }
    Ok(())
}

fn make_place(root: &Path, path: &Path, place: &Place) -> Result<()> {
    let mut directory = open(rustix::fs::CWD, root.as_os_str())?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    for name in parent {
        directory = enter(&directory, name)?;
    }
    match place {
        Place::Directory => enter(&directory, name).map(drop),
        place => put(&directory, name, place),
    }
}

fn open(parent: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// The directory, whatever was there. A link could lead elsewhere by the time that the runtime mounts
/// something, so it does not stay.
fn enter(parent: &OwnedFd, name: &OsStr) -> Result<OwnedFd> {
    match open(parent, name) {
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR | Errno::LOOP) => unlinkat(parent, name, AtFlags::empty())?,
        opened => return Ok(opened?),
    }
    mkdirat(parent, name, Mode::from_raw_mode(MODE))?;
    let made = open(parent, name)?;
    rustix::fs::fchmod(&made, Mode::from_raw_mode(MODE))?;
    Ok(made)
}

/// The file or the link. Nothing that an image has there can be mounted upon but a file.
fn put(parent: &OwnedFd, name: &OsStr, place: &Place) -> Result<()> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno.into()),
        Ok(found) => match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => return Ok(()),
            FileType::RegularFile if matches!(place, Place::File) => return Ok(()),
            _ => unlinkat(parent, name, AtFlags::empty())?,
        },
    }
    if let Place::Link(target) = place {
        return Ok(symlinkat(*target, parent, name)?);
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::from_raw_mode(MODE))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(MODE))?;
    Ok(())
}
