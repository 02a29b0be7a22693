//! Places inside a root that somebody else filled.
//!
//! A path means what its symbolic links say at the moment of use, and an image
//! or a running process decides what they say. Here a path is resolved once,
//! by openat2(2) and never out of the root, and from then on it is a
//! descriptor: most escapes in runc's history were paths resolved twice.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, statat,
};
use rustix::io::Errno;

/// What a mount needs to stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// Anything else.
    File,
}

const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens the root itself: what is mounted there last.
pub(crate) fn open_top(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty())
        .with_context(|| format!("open the container's root {}", path.display()))
}

/// Opens `path` in the root; what is missing is made. Links are followed, but
/// an absolute one starts at the root, and `..` stops there.
pub(crate) fn open(top: &OwnedFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    make(top, path, kind)
        .and_then(|()| existing(top, path, ResolveFlags::empty()))
        .with_context(|| format!("find a place for {} in the container", path.display()))
}

/// As [`open`], but refuses links: where an image has a link for `/proc` or
/// `/dev`, what is made there would come to be somewhere else.
pub(crate) fn open_plain(top: &OwnedFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    make(top, path, kind)
        .and_then(|()| existing(top, path, ResolveFlags::NO_SYMLINKS))
        .with_context(|| {
            let path = path.display();
            format!("find a place for {path}, which may not be a symbolic link in the container")
        })
}

fn existing(top: &OwnedFd, path: &Path, more: ResolveFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    loop {
        match openat2(top, path, PATH_ONLY, Mode::empty(), resolve) {
            // Somebody renamed a directory on the way: openat2(2) asks us to
            // try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Makes what is missing, one component at a time, each in the descriptor of
/// its parent.
fn make(top: &OwnedFd, path: &Path, kind: Kind) -> Result<()> {
    let names: Vec<&OsStr> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(Ok(name)),
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir | Component::Prefix(_) => Some(Err(())),
        })
        .collect::<Result<_, ()>>()
        .or_else(|()| bail!("{} has .. in it", path.display()))?;
    let mut parent = PathBuf::from("/");
    for (index, name) in names.iter().enumerate() {
        let dir = existing(top, &parent, ResolveFlags::empty())?;
        parent.push(name);
        if statat(&dir, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            continue;
        }
        let is_last = index + 1 == names.len();
        let made = if is_last && kind == Kind::File {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&dir, *name, flags, Mode::from_raw_mode(0o644)).map(drop)
        } else {
            mkdirat(&dir, *name, Mode::from_raw_mode(0o755))
        };
        match made {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).with_context(|| format!("make {}", parent.display())),
        }
    }
    Ok(())
}

/// What a file of the host is.
pub(crate) fn kind_of(path: &Path) -> Result<Kind> {
    let file = openat(CWD, path, PATH_ONLY, Mode::empty())
        .with_context(|| format!("find {} on the host", path.display()))?;
    let mode = fstat(&file)?.st_mode;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    })
}
