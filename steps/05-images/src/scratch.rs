//! Directories that go away again: what is half made, and what is no longer wanted.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec};
use rustix::io::Errno;

use crate::digest::{Digest, Hasher};
use crate::inside::split;

/// Where a scratch directory says what its maker needs.
const NEEDS: &str = "needs";

/// A directory for things in the making. What was not moved out of it goes with it.
///
/// It is locked for as long as its maker lives, and so it is a *lease*, too: what is listed in it
/// is not collected, though no image names it yet.
pub(crate) struct Scratch {
    dir: PathBuf,
    taken: AtomicU32,
    _lock: File,
}

/// Bytes in a file, and which they are.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Scratch {
    /// Makes a directory nobody else has, in `parent`. A sweep in the moment before it is locked
    /// would take it for a dead one's: the caller keeps sweeps away.
    pub(crate) fn new(parent: &Path) -> Result<Self> {
        let mut number = 0_u32;
        let dir = loop {
            let dir = parent.join(format!("{}.{number}", std::process::id()));
            match private_directory(&dir) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                made => {
                    made.with_context(|| format!("make the directory {}", dir.display()))?;
                    break dir;
                }
            }
        };
        let lock = File::open(&dir).and_then(|it| it.lock().map(|()| it));
        Ok(Self {
            _lock: lock.with_context(|| format!("lock {}", dir.display()))?,
            taken: AtomicU32::new(0),
            dir,
        })
    }

    /// The scratch directories in `parent` whose makers live, or those whose makers are dead.
    pub(crate) fn all(parent: &Path, living: bool) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in
            std::fs::read_dir(parent).with_context(|| format!("list {}", parent.display()))?
        {
            let dir = entry?.path();
            // The place may be a link to one that others use, too.
            if !is_scratch(&dir) {
                continue;
            }
            let free = match File::open(&dir) {
                // Its maker has just removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => opened
                    .map_err(TryLockError::Error)
                    .and_then(|dir| dir.try_lock()),
            };
            if matches!(free, Err(TryLockError::WouldBlock)) == living {
                found.push(dir);
            }
        }
        Ok(found)
    }

    /// Adds blobs or layers to what must stay while this scratch directory is there. The caller
    /// keeps collectors away, and only then looks what is there.
    pub(crate) fn need(&self, digests: &[Digest]) -> Result<()> {
        let path = self.dir.join(NEEDS);
        let lines: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .with_context(|| format!("write {}", path.display()))
    }

    /// What the maker of a scratch directory needs.
    pub(crate) fn needs(dir: &Path) -> Result<BTreeSet<Digest>> {
        match std::fs::read_to_string(dir.join(NEEDS)) {
            Ok(lines) => lines.lines().map(str::parse).collect(),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error).with_context(|| format!("read {}", dir.display())),
        }
    }

    /// Since when it is there, by the clock that stamps files.
    pub(crate) fn begun(&self) -> Result<Timespec> {
        let dir = self.dir.metadata();
        let dir = dir.with_context(|| format!("look at {}", self.dir.display()))?;
        Ok(Timespec {
            tv_sec: dir.ctime(),
            tv_nsec: dir.ctime_nsec(),
        })
    }

    /// A path in here that is not in use yet.
    pub(crate) fn path(&self) -> PathBuf {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        self.dir.join(number.to_string())
    }

    /// A new file to write a blob into.
    pub(crate) fn spool(&self) -> Result<Spool> {
        let path = self.path();
        let file = File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Spool::new(path, file))
    }

    /// Writes down a document.
    pub(crate) fn keep(&self, bytes: &[u8]) -> Result<Blob> {
        let mut spool = self.spool()?;
        spool.write_all(bytes).context("write a document")?;
        spool
            .file
            .sync_all()
            .context("write a document to the disk")?;
        Ok(spool.finish())
    }

    /// Moves a tree out of its place. It is gone when this scratch directory is.
    pub(crate) fn take_away(&self, tree: &Path) -> Result<()> {
        std::fs::rename(tree, self.path()).with_context(|| format!("remove {}", tree.display()))
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

/// Whether a directory is called as [`Scratch::new`] calls them: `PID.NUMBER`.
fn is_scratch(dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let is_number = |text: &str| text.parse::<u32>().is_ok();
    name.split_once('.')
        .is_some_and(|(pid, number)| is_number(pid) && is_number(number))
}

/// A blob that is being written.
pub(crate) struct Spool {
    path: PathBuf,
    file: File,
    hasher: Hasher,
}

impl Spool {
    /// What is to be written to the end of a file.
    pub(crate) fn new(path: PathBuf, file: File) -> Self {
        let hasher = Hasher::default();
        Self { path, file, hasher }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How many bytes the file has, from before as well.
    pub(crate) fn length(&self) -> Result<u64> {
        let file = self.file.metadata();
        Ok(file
            .with_context(|| format!("look at {}", self.path.display()))?
            .len())
    }

    /// Counts bytes that the file has already.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// Begins again.
    pub(crate) fn clear(&mut self) -> Result<()> {
        self.hasher = Hasher::default();
        self.file
            .set_len(0)
            .with_context(|| format!("empty {}", self.path.display()))
    }

    /// How much there is.
    pub(crate) fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// What has been written. The file stays open, and locked where it was.
    pub(crate) fn finish(&mut self) -> Blob {
        let (digest, size) = std::mem::take(&mut self.hasher).finish();
        let path = self.path.clone();
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

/// Removes what is at `path`, with everything below it, however deep that is. No link is followed
/// and no mount entered.
///
/// # Errors
/// What the file system refuses, or something is mounted there.
pub fn remove_tree(path: &Path) -> io::Result<()> {
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
