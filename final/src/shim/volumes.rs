//! A new volume begins with what the image has in its place.

use std::fs::{self, File};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, fchmod, fstat, openat2};
use rustix::io::Errno;

use crate::runtime;
use crate::state::{Container, Volume};

/// Fills those volumes of a container that nobody has written to. `root` is the container's, opened
/// before anything runs in it.
///
/// # Errors
/// The disk is full.
pub(super) fn fill(container: &Container, root: BorrowedFd) -> Result<()> {
    // Who has run once knows what he took out of his volumes.
    if container.life.started.is_some() {
        return Ok(());
    }
    for volume in &container.mounts {
        let wanted = volume.mode.split(',').all(|word| word != "nocopy");
        if volume.r#type == "volume" && wanted {
            fill_one(volume, root).with_context(|| format!("fill the volume {}", volume.source))?;
        }
    }
    Ok(())
}

fn fill_one(volume: &Volume, root: BorrowedFd) -> Result<()> {
    let Some(from) = in_image(&volume.destination, root)? else {
        return Ok(());
    };
    let place = Path::new(&volume.source);
    let parent = place.parent().context("a volume without a place")?;
    // Of several that begin with one volume the others wait.
    let alone = File::open(parent)?;
    alone.lock()?;
    // Whoever dies halfway leaves a mark, and who comes next begins anew.
    let mark = parent.join("filling");
    match mark.exists() {
        true => empty(place)?,
        false if fs::read_dir(place)?.next().is_some() => return Ok(()),
        false => drop(File::create(&mark)?),
    }
    let to = OwnedFd::from(File::open(place)?);
    runtime::copy_tree(&from, &to)?;
    fchmod(&to, Mode::from_raw_mode(fstat(&from)?.st_mode))?;
    fs::remove_file(&mark)?;
    Ok(())
}

fn empty(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

/// The directory of the image's that a volume will cover. Its links lead nowhere else than in the
/// container.
fn in_image(place: &str, root: BorrowedFd) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match openat2(root, place, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(errno) => Err(errno).with_context(|| format!("open {place} in the image")),
    }
}
