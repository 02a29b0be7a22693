//! Places inside a root that somebody else filled.
//!
//! A path means what its symbolic links say at the moment of use, and an image
//! or a running process decides what they say. Here a path is resolved once,
//! by openat2(2) and never out of the root, and from then on it is a
//! descriptor: most escapes in runc's history were paths resolved twice.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, readlinkat,
};
use rustix::io::Errno;

/// What a mount needs to stand on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
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
    let place = find(top, path, kind, ResolveFlags::IN_ROOT)
        .with_context(|| format!("find a place for {} in the container", path.display()))?;
    // The kernel would only say EINVAL.
    let is = |kind| match kind {
        Kind::Directory => "a directory",
        Kind::File => "a file",
    };
    let there = kind_of(&place)?;
    ensure!(
        there == kind,
        "{} is {} in the container, and what is to be mounted on it is {}",
        path.display(),
        is(there),
        is(kind),
    );
    Ok(place)
}

/// As [`open`], but refuses links: where an image has a link for `/proc` or
/// `/dev`, what is made there would come to be somewhere else.
pub(crate) fn open_plain(top: &OwnedFd, path: &Path, kind: Kind) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    find(top, path, kind, resolve)
        .map_err(|errno| match errno {
            Errno::LOOP => anyhow!("it may not be, or lie behind, a symbolic link"),
            errno => errno.into(),
        })
        .with_context(|| format!("find a place for {} in the container", path.display()))
}

/// What is there already, or a new one in the parent, for which the same goes.
/// A link to nowhere stands for what it points at: an image may bring
/// `/etc/resolv.conf` as one into the `/run` of a system that has booted.
fn find(top: &OwnedFd, path: &Path, kind: Kind, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
    let mut path = path.to_path_buf();
    // As many links as the kernel follows (path_resolution(7)).
    for _ in 0..=40 {
        match existing(top, &path, resolve) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT);
        };
        let dir = find(top, parent, Kind::Directory, resolve)?;
        match make(&dir, name, kind) {
            Ok(()) => return existing(top, &path, resolve),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        match readlinkat(&dir, name, Vec::new()) {
            Ok(target) => path = parent.join(OsStr::from_bytes(target.to_bytes())),
            // No link: somebody else was faster.
            Err(Errno::INVAL | Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

pub(crate) fn existing(
    top: &OwnedFd,
    path: &Path,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
    loop {
        match openat2(top, path, PATH_ONLY, Mode::empty(), resolve) {
            // Somebody renamed a directory on the way: openat2(2) asks us to
            // try again.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}

fn make(dir: &OwnedFd, name: &OsStr, kind: Kind) -> Result<(), Errno> {
    match kind {
        Kind::Directory => mkdirat(dir, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    }
}

/// What an opened file is.
///
/// # Errors
/// Fails where fstat(2) does.
pub fn kind_of(file: &OwnedFd) -> Result<Kind> {
    let mode = fstat(file)?.st_mode;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::Directory => Kind::Directory,
        _ => Kind::File,
    })
}
