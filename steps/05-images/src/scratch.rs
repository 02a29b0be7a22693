//! Directories that go away again: what is half made, and what is no longer wanted.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, BufRead, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::digest::{Digest, Hasher};
use crate::inside::split;

/// A directory for things in the making. What was not moved out of it goes with it.
pub(crate) struct Scratch {
    dir: PathBuf,
    taken: Cell<u32>,
}

/// Bytes in a file, and which they are.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Scratch {
    /// Makes a directory nobody else has, in `parent`.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let mut number = 0_u32;
        loop {
            let dir = parent.join(format!("{}.{number}", std::process::id()));
            match private_directory(&dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                made => {
                    made.with_context(|| format!("make the directory {}", dir.display()))?;
                    let taken = Cell::new(0);
                    return Ok(Self { dir, taken });
                }
            }
        }
    }

    /// A path in here that is not in use yet.
    pub(crate) fn path(&self) -> PathBuf {
        let number = self.taken.get();
        self.taken.set(number + 1);
        self.dir.join(number.to_string())
    }

    /// Writes down what `from` holds, hashing it on the way.
    pub(crate) fn keep(&self, from: &mut impl BufRead) -> Result<Blob> {
        let mut spool = self.spool()?;
        loop {
            let bytes = from.fill_buf()?;
            if bytes.is_empty() {
                return Ok(spool.finish());
            }
            spool.write_all(bytes)?;
            let count = bytes.len();
            from.consume(count);
        }
    }

    /// A new file to write a blob into.
    pub(crate) fn spool(&self) -> Result<Spool> {
        let path = self.path();
        let file = File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        let hasher = Hasher::default();
        Ok(Spool { path, file, hasher })
    }

    /// Removes a tree. It is out of its place at once, though it takes a while to be gone.
    pub(crate) fn discard(&self, tree: &Path) -> Result<()> {
        let away = self.path();
        std::fs::rename(tree, &away)
            .and_then(|()| remove_tree(&away))
            .with_context(|| format!("remove {}", tree.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is found by the next sweep; an error here would hide the one that matters.
        let _ = remove_tree(&self.dir);
    }
}

/// A blob that is being written.
pub(crate) struct Spool {
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

impl Spool {
    pub(crate) fn finish(self) -> Blob {
        let (digest, size) = self.hasher.finish();
        let path = self.path;
        Blob { path, digest, size }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Makes a directory that other users of the host cannot enter: below it are setuid programs of
/// somebody else's choice, and devices.
pub(crate) fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Makes a directory that is `/` to a container, whatever the caller's umask keeps from others.
pub(crate) fn open_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o755))
}

/// Removes what is at `path`, with everything below it.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (dir, name) = split(path.as_os_str().as_encoded_bytes());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(
        if dir.is_empty() { b"." } else { dir },
        flags,
        Mode::empty(),
    )?;
    remove_tree_at(dir.as_fd(), name)
}

/// Removes `name` in `parent`, a file or a tree, following no link.
///
/// Directories found two levels down are moved one level up instead of being entered: a tree that
/// a container has nested a hundred thousand deep needs neither a path nor a stack of that depth.
pub(crate) fn remove_tree_at(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        result => return Ok(result?),
    }
    let top = enter(parent, name)?;
    let mut moved = 0_u64;
    loop {
        let mut found = false;
        for (entry, is_dir) in list(&top)? {
            found = true;
            if !is_dir {
                rustix::fs::unlinkat(&top, &entry, AtFlags::empty())?;
                continue;
            }
            let dir = enter(top.as_fd(), entry.as_bytes())?;
            for (child, is_dir) in list(&dir)? {
                if is_dir {
                    move_up(&dir, &child, &top, &mut moved)?;
                } else {
                    rustix::fs::unlinkat(&dir, &child, AtFlags::empty())?;
                }
            }
            rustix::fs::unlinkat(&top, &entry, AtFlags::REMOVEDIR)?;
        }
        if !found {
            return Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?);
        }
    }
}

/// Opens a directory to empty it. Root may in any case; a user must first be given the right to
/// (overlayfs itself makes `work/work` with mode 0). A mount is not entered: what a program left
/// mounted there may be somebody's own files (EXDEV; openat2(2), RESOLVE_NO_XDEV).
fn enter(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV);
    let dir = match open() {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
            open()?
        }
        Err(Errno::XDEV) => {
            let name = String::from_utf8_lossy(name);
            let why =
                format!("something is mounted on the directory {name} in it; unmount that first");
            return Err(io::Error::other(why));
        }
        result => result?,
    };
    // Refused for another's directory, and then the removal below says what is wrong.
    let _ = rustix::fs::fchmod(&dir, Mode::RWXU);
    Ok(dir)
}

fn list(dir: &OwnedFd) -> io::Result<Vec<(CString, bool)>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode)
            }
            known => known,
        };
        entries.push((name.to_owned(), kind == FileType::Directory));
    }
    Ok(entries)
}

fn move_up(dir: &OwnedFd, child: &CString, top: &OwnedFd, moved: &mut u64) -> io::Result<()> {
    // Moving a directory changes its `..`, for which one must be allowed to write to it.
    drop(enter(dir.as_fd(), child.as_bytes())?);
    loop {
        *moved += 1;
        match rustix::fs::renameat(dir, child, top, format!("{moved}")) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            result => return Ok(result?),
        }
    }
}
