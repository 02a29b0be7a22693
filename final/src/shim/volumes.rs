//! A volume that is a file system is mounted, and a new one that is a directory begins with what the
//! image has in its place.
//!
//! ```text
//! the image's directory ──copy──▶ filling/ ──rename──▶ filled/ ──rename, each entry──▶ _data/
//! ```
//!
//! Whoever dies while copying leaves nothing in `_data`; whoever dies while moving leaves what is
//! still to be moved, and who comes next does that. So nothing is ever taken out of `_data`, which
//! another container may have begun to use.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use images::remove_tree;
use nix::mount::{MntFlags, MsFlags, umount2};
use rustix::fs::{
    AtFlags, Dir, OFlags, RenameFlags, ResolveFlags, StatxFlags, fstat, renameat_with, statx,
};
use rustix::io::Errno;

use super::spec;
use crate::runtime::{self, MountOptions};
use crate::state::journal::{self, Event, Kind};
use crate::state::{Container, FileSystem, LocalVolume, Volume, volume_place};

/// Mounts those of a container's volumes that are file systems, in their places: only who shares the
/// caller's mount namespace sees that, and the last to go takes it along. What is answered must be held
/// as long.
///
/// # Errors
/// The kernel refuses, or another container has a tmpfs: what is in that can be seen by one.
pub fn mount(container: &Container, dirs: &Dirs) -> Result<Vec<File>> {
    let mut held = Vec::new();
    let volumes = container.mounts.iter().filter(|it| it.r#type == "volume");
    let names: BTreeSet<&String> = volumes.map(|volume| &volume.name).collect();
    for name in names {
        let Some(volume) = LocalVolume::read(dirs, name)? else {
            continue;
        };
        let Some(wanted) = volume.file_system() else {
            continue;
        };
        if wanted.kind == "tmpfs" {
            held.push(take(&volume, dirs)?);
        }
        let place = volume.files(dirs);
        // From the run before.
        let _ = umount2(&place, MntFlags::MNT_DETACH);
        mount_one(&wanted, &place).with_context(|| {
            format!(
                "error while mounting volume {name}: failed to mount local volume (type={}, device={})",
                wanted.kind, wanted.device
            )
        })?;
    }
    Ok(held)
}

/// Two who mount a tmpfs have two.
fn take(volume: &LocalVolume, dirs: &Dirs) -> Result<File> {
    let path = volume.description(dirs);
    let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    ensure!(
        file.try_lock().is_ok(),
        "volume {} is a tmpfs, and another container has it: it can be one's at a time; a volume \
         without type=tmpfs can be shared",
        volume.name
    );
    Ok(file)
}

fn mount_one(wanted: &FileSystem<'_>, place: &Path) -> Result<()> {
    let words = wanted.words.iter().map(|word| resolved(word));
    let options = MountOptions::parse(&words.collect::<Result<Vec<_>>>()?, "o")?;
    let mount = rootfs::Mount {
        source: wanted.device.into(),
        target: place.to_owned(),
        fstype: wanted.kind.to_owned().into(),
        flags: options.flags,
        data: options.data.join(","),
        plain: false,
        attributes: Vec::new(),
        propagation: MsFlags::empty(),
    };
    let file = File::open(place).with_context(|| format!("open {}", place.display()))?;
    mount.mount_on(&file.into())
}

/// The kernel knows no names of machines; mount.nfs(8) would look them up.
fn resolved(word: &str) -> Result<String> {
    let Some(name) = word.strip_prefix("addr=") else {
        return Ok(word.to_owned());
    };
    let mut found = (name, 0)
        .to_socket_addrs()
        .with_context(|| format!("error resolving passed in network volume address {name}"))?;
    let found = found.next().map(|address| address.ip().to_string());
    Ok(format!("addr={}", found.as_deref().unwrap_or(name)))
}

/// Fills those volumes of a container that nobody has written to. `root` is the container's, opened
/// before anything runs in it.
///
/// # Errors
/// The disk is full.
pub(super) fn fill(container: &Container, dirs: &Dirs, root: BorrowedFd) -> Result<()> {
    // Who has run once knows what he took out of his volumes.
    let is_first = container.life.started.is_none();
    for volume in container.mounts.iter().filter(|it| it.r#type == "volume") {
        let wanted = is_first && !volume.no_copy;
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
    let (to, own) = goal(volume)?;
    let filling = place.join(format!("filling{own}"));
    let filled = place.join(format!("filled{own}"));
    if from.is_none() && !filled.exists() {
        return Ok(());
    }
    // Of several that begin with one volume the others wait.
    let alone = File::open(place)?;
    alone.lock()?;
    // What is mounted in its place cannot be renamed to, and has a beginning of its own.
    let is_here = mount_of(&alone)? == mount_of(&to)?;
    let is_new = is_here && names_in(&to)?.is_empty();
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

/// What is to be filled; and what tells its files from those of the volume's other parts, on their way
/// there.
fn goal(volume: &Volume) -> Result<(File, String)> {
    if volume.subpath.is_empty() {
        return Ok((File::open(&volume.source)?, String::new()));
    }
    let part = File::from(spec::open_part(volume, OFlags::RDONLY)?);
    let own = format!(".{}", part.metadata()?.ino());
    Ok((part, own))
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
    let found = fstat(&source)?;
    for name in &names_in(&source)? {
        match renameat_with(&source, name, to, name, RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    runtime::copy_attributes(source.as_fd(), to.as_fd(), &found)?;
    Ok(remove_tree(from)?)
}

fn names_in(directory: &File) -> Result<Vec<CString>> {
    let mut names: Vec<CString> = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if ![c".", c".."].contains(&name.as_c_str()) {
            names.push(name);
        }
    }
    Ok(names)
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
