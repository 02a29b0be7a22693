//! `volume-subpath`: a directory of a volume, whatever links a container has put there.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat};
use rustix::io::Errno;

use crate::runtime::look_up;
use crate::state::{Container, Places, Volume};

/// Mounts all parts of volumes that a container has, where [`Places::subpath`] says. The caller has a
/// mount namespace of its own.
///
/// # Errors
/// A part is not there, or leads out of its volume.
pub fn mount_all(container: &Container, places: &Places) -> Result<()> {
    let parts = container.mounts.iter().enumerate();
    parts
        .filter(|(_, volume)| !volume.subpath.is_empty())
        .try_for_each(|(n, volume)| pick(volume, places, n).map(drop))
}

/// Mounts a part of a volume beside the container's root, and returns where: a path would be
/// resolved once more by the runtime, and by then lead elsewhere (openat2(2), `RESOLVE_BENEATH`).
/// `n` tells the container's mounts apart.
pub(super) fn pick(volume: &Volume, places: &Places, n: usize) -> Result<PathBuf> {
    let place = places.subpath(n);
    let tree = rootfs::copy_tree(open_part(volume, OFlags::PATH)?.as_fd(), true)?;
    lay_beside(&place, &tree, "the container sees a part of a volume")?;
    Ok(place)
}

/// Mounts a tree at a place beside the container's root. Nobody but the shim and the container sees
/// that.
pub(super) fn lay_beside(place: &Path, tree: &OwnedFd, why: &'static str) -> Result<()> {
    match fs::create_dir(place) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // From the last start; in another shim's namespace it is gone already.
            let _ = umount2(place, MntFlags::MNT_DETACH);
        }
        made => made.with_context(|| format!("make {}", place.display()))?,
    }
    rootfs::move_tree(tree, &open(place)?, why)
}

/// Opens the directory of a volume that a container has of it.
///
/// # Errors
/// It is not there, or leads out of the volume.
pub fn open_part(volume: &Volume, access: OFlags) -> Result<OwnedFd> {
    let Volume { name, subpath, .. } = volume;
    let top = open(Path::new(&volume.source))?;
    let flags = access | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    match look_up(&top, subpath.as_str(), flags, resolve) {
        Ok(part) => Ok(part),
        Err(Errno::XDEV) => bail!("the subpath {subpath} leads out of the volume {name}"),
        Err(errno) => {
            let what = format!("cannot access the subpath {subpath} of the volume {name}");
            Err(errno).context(what)
        }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(CWD, path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}
