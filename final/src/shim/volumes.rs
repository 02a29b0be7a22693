//! A new volume begins with what the image has in its place.
//!
//! ```text
//! the image's directory ──copy──▶ filling/ ──rename──▶ filled/ ──rename, each entry──▶ _data/
//! ```
//!
//! Whoever dies while copying leaves nothing in `_data`; whoever dies while moving leaves what is
//! still to be moved, and who comes next does that. So nothing is ever taken out of `_data`, which
//! another container may have begun to use.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use cli::Dirs;
use images::remove_tree;
use rustix::fs::{
    AtFlags, Dir, OFlags, RenameFlags, ResolveFlags, StatxFlags, fstat, renameat_with, statx,
};
use rustix::io::Errno;

use crate::runtime;
use crate::state::journal::{self, Event, Kind};
use crate::state::{Container, Volume, volume_place};

/// Fills those volumes of a container that nobody has written to. `root` is the container's, opened
/// before anything runs in it.
///
/// # Errors
/// The disk is full.
pub(super) fn fill(container: &Container, dirs: &Dirs, root: BorrowedFd) -> Result<()> {
    // Who has run once knows what he took out of his volumes.
    let is_first = container.life.started.is_none();
    for volume in container.mounts.iter().filter(|it| it.r#type == "volume") {
        let wanted = is_first && !volume.no_copy && volume.subpath.is_empty();
        let what = || format!("fill the volume {}", volume.name);
        let from = match wanted {
            true => in_image(&volume.destination, root).with_context(what)?,
            false => None,
        };
        fill_one(&volume_place(dirs, &volume.name), volume, from).with_context(what)?;
    }
    Ok(())
}

fn fill_one(place: &Path, volume: &Volume, from: Option<OwnedFd>) -> Result<()> {
    let (filling, filled) = (place.join("filling"), place.join("filled"));
    if from.is_none() && !filled.exists() {
        return Ok(());
    }
    // Of several that begin with one volume the others wait.
    let alone = File::open(place)?;
    alone.lock()?;
    let to = File::open(&volume.source)?;
    // What is mounted in its place cannot be renamed to, and has a beginning of its own.
    let is_here = mount_of(&alone)? == mount_of(&to)?;
    let is_new = is_here && fs::read_dir(&volume.source)?.next().is_none();
    if let Some(from) = from.filter(|_| is_new && !filled.exists()) {
        match remove_tree(&filling) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => fs::create_dir(&filling)?,
        }
        copy(&from, &filling).inspect_err(|_| drop(remove_tree(&filling)))?;
        fs::rename(&filling, &filled)?;
    }
    if filled.exists() {
        pour(&filled, &to)?;
    }
    Ok(())
}

/// In which mount a file is. Of one file system there may be several, and rename(2) leads from none to
/// another.
fn mount_of(file: &File) -> Result<u64> {
    let found = statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    Ok(found.stx_mnt_id)
}

/// With the attributes that the directory itself has in the image.
fn copy(from: &OwnedFd, to: &Path) -> Result<()> {
    let to = OwnedFd::from(File::open(to)?);
    runtime::copy_tree(from, &to)?;
    runtime::copy_attributes(from, &to, &fstat(from)?)
}

/// Moves all that is in a directory. What has come to be at its new place meanwhile, stays.
fn pour(from: &Path, to: &File) -> Result<()> {
    let source = File::open(from)?;
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(&source)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    let found = fstat(&source)?;
    for name in &names {
        match renameat_with(&source, name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    runtime::copy_attributes(source.as_fd(), to.as_fd(), &found)?;
    Ok(remove_tree(from)?)
}

/// The directory of the image's that a volume will cover. Its links lead nowhere else than in the
/// container.
fn in_image(place: &str, root: BorrowedFd) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match runtime::look_up(root, place, flags, resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("open {place} in the image")),
    }
}

/// For those who watch what happens: the container has its volumes (`mount`), or has them no more
/// (`unmount`).
pub(super) fn tell(dirs: &Dirs, container: &Container, action: &str) {
    for volume in container.mounts.iter().filter(|it| it.r#type == "volume") {
        let mut event = Event::new(Kind::Volume, action, &volume.name)
            .with("container", &container.id)
            .with("driver", "local");
        if action == "mount" {
            event = event
                .with("destination", &volume.destination)
                .with("propagation", &volume.propagation)
                .with("read/write", volume.writable);
        }
        journal::tell(dirs, &event);
    }
}
