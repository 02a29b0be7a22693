//! `volume-subpath`: a directory of a volume, whatever links a container has put there.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::path::PathBuf;

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
/// Nobody but the shim and the container sees that. `n` tells the container's mounts apart.
pub(super) fn pick(volume: &Volume, places: &Places, n: usize) -> Result<PathBuf> {
    let Volume {
        name,
        source,
        subpath,
        ..
    } = volume;
    let place = places.subpath(n);
    match fs::create_dir(&place) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // From the last start; in another shim's namespace it is gone already.
            let _ = umount2(&place, MntFlags::MNT_DETACH);
        }
        made => made.with_context(|| format!("make {}", place.display()))?,
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &PathBuf| {
        openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty())
            .with_context(|| format!("open {}", path.display()))
    };
    let top = open(&PathBuf::from(source))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let part = match look_up(&top, subpath.as_str(), flags, resolve) {
        Ok(part) => part,
        Err(Errno::XDEV) => bail!("the subpath {subpath} leads out of the volume {name}"),
        Err(errno) => {
            let what = format!("cannot access the subpath {subpath} of the volume {name}");
            return Err(errno).context(what);
        }
    };
    let tree = rootfs::copy_tree(part.as_fd(), true)?;
    rootfs::move_tree(
        &tree,
        &open(&place)?,
        "the container sees a part of a volume",
    )?;
    Ok(place)
}
