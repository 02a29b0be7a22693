//! `tmpcopyup`: a tmpfs that begins with the files that it covers.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fchmod, fgetxattr, flistxattr, fsetxattr, fstat, futimens, linkat, mkdirat,
    mknodat, openat, readlinkat, statat, symlinkat, utimensat,
};
use rustix::io::Errno;

/// Copies the directory `from` with everything in it to the directory `to`, whose mode stays.
/// Whatever others do in `from` meanwhile, no link is followed.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let open = |dir: &OwnedFd| open_dir(dir.as_fd(), c".").context("open the directory");
    let (from, to) = (open(from)?, open(to)?);
    // The one of its options, or else already the one of what it covers.
    let mode = Mode::from_raw_mode(fstat(&to)?.st_mode);
    let mut copying = Copying {
        top: &to,
        linked: HashMap::new(),
    };
    copying.dir(&from, &to, Path::new(""))?;
    fchmod(&to, mode).context("give it back its mode")
}

fn open_dir(at: BorrowedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// A copy on its way.
struct Copying<'t> {
    /// Where it goes.
    top: &'t OwnedFd,
    /// Where those files are in it that have several names, by their device and inode.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl Copying<'_> {
    fn dir(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<()> {
        for entry in Dir::read_from(from).context("read the directory")? {
            let entry = entry.context("read the directory")?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                self.entry(from, to, &path, name)
                    .with_context(|| format!("copy {}", name.to_string_lossy()))?;
            }
        }
        // Last: what was made in it has changed its times, and may need a mode
        // that forbids just that.
        copy_attributes(from, to, &fstat(from)?)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path, name: &CStr) -> Result<()> {
        let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(found.st_mode);
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                mkdirat(to, name, Mode::RWXU)?;
                let (from, to) = (open_dir(from.as_fd(), name)?, open_dir(to.as_fd(), name)?);
                self.dir(&from, &to, path)
            }
            FileType::RegularFile => {
                let which = (found.st_dev, found.st_ino);
                match self.linked.get(&which) {
                    Some(other) => linkat(self.top, other, to, name, AtFlags::empty())?,
                    None => copy_file(from, to, name)?,
                }
                if found.st_nlink > 1 {
                    self.linked.entry(which).or_insert_with(|| path.to_owned());
                }
                Ok(())
            }
            FileType::Symlink => {
                symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
                own(to, name, &found)
            }
            kind => {
                mknodat(to, name, kind, mode, found.st_rdev)?;
                own(to, name, &found)?;
                // The umask has kept bits of it back, and chown(2) takes others away.
                Ok(chmodat(to, name, mode, AtFlags::empty())?)
            }
        }
    }
}

/// What is no file and no directory gets its owner and its times by its name.
fn own(dir: &OwnedFd, name: &CStr, like: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    let here = AtFlags::SYMLINK_NOFOLLOW;
    chownat(dir, name, Some(uid), Some(gid), here)?;
    Ok(utimensat(dir, name, &times(like), here)?)
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    // What has become a FIFO meanwhile must not keep us waiting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut source = File::from(openat(from, name, flags, Mode::empty())?);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut copy = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    io::copy(&mut source, &mut copy)?;
    let found = fstat(&source)?;
    copy_attributes(&source, &copy, &found)
}

/// Owner first: a change of it takes set-user-ID bits and capabilities away.
pub(crate) fn copy_attributes(from: impl AsFd, to: impl AsFd, found: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::fchown(&to, Some(uid), Some(gid)).context("give it its owner")?;
    fchmod(&to, Mode::from_raw_mode(found.st_mode)).context("give it its mode")?;
    copy_xattrs(&from, &to).context("give it its extended attributes")?;
    futimens(to, &times(found)).context("give it its times")
}

fn times(like: &Stat) -> Timestamps {
    let time = |tv_sec, nsec: u64| Timespec {
        tv_sec,
        tv_nsec: nsec.cast_signed(),
    };
    Timestamps {
        last_access: time(like.st_atime, like.st_atime_nsec),
        last_modification: time(like.st_mtime, like.st_mtime_nsec),
    }
}

fn copy_xattrs(from: impl AsFd, to: impl AsFd) -> Result<(), Errno> {
    let mut names = vec![0; 64 << 10];
    let length = match flistxattr(&from, &mut names[..]) {
        Err(Errno::NOTSUP) => return Ok(()),
        length => length?,
    };
    let mut value = vec![0; 64 << 10];
    for name in names[..length].split(|byte| *byte == 0) {
        let Some(name) = CString::new(name).ok().filter(|name| !name.is_empty()) else {
            continue;
        };
        let length = fgetxattr(&from, &name, &mut value[..])?;
        match fsetxattr(&to, &name, &value[..length], XattrFlags::empty()) {
            // A tmpfs knows fewer kinds than a disk.
            Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
