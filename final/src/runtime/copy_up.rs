//! `tmpcopyup`: a tmpfs that begins with the files that it covers.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

/// Copies the directory `from` with everything in it to the directory `to`.
/// Whatever others do in `from` meanwhile, no link is followed.
pub(crate) fn copy(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    let open = |dir: &OwnedFd| open_dir(dir.as_fd(), c".").context("open the directory");
    let (from, to) = (open(from)?, open(to)?);
    // The one of its options, or else already the one of what it covers.
    let mode = Mode::from_raw_mode(fstat(&to)?.st_mode);
    copy_dir(&from, &to)?;
    fchmod(&to, mode).context("give it back its mode")
}

fn open_dir(at: BorrowedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn copy_dir(from: &OwnedFd, to: &OwnedFd) -> Result<()> {
    for entry in Dir::read_from(from).context("read the directory")? {
        let entry = entry.context("read the directory")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name)
                .with_context(|| format!("copy {}", name.to_string_lossy()))?;
        }
    }
    // Last: what was made in it has changed its times, and may need a mode
    // that forbids just that.
    copy_attributes(from, to, &fstat(from)?)
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    let found = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            mkdirat(to, name, Mode::RWXU)?;
            copy_dir(&open_dir(from.as_fd(), name)?, &open_dir(to.as_fd(), name)?)
        }
        FileType::RegularFile => copy_file(from, to, name),
        FileType::Symlink => {
            symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
            own(to, name, &found)
        }
        kind => {
            let mode = Mode::from_raw_mode(found.st_mode);
            mknodat(to, name, kind, mode, found.st_rdev)?;
            own(to, name, &found)
        }
    }
}

fn own(dir: &OwnedFd, name: &CStr, like: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
    Ok(chownat(
        dir,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
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
fn copy_attributes(from: impl AsFd, to: impl AsFd, found: &Stat) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::fchown(&to, Some(uid), Some(gid)).context("give it its owner")?;
    fchmod(&to, Mode::from_raw_mode(found.st_mode)).context("give it its mode")?;
    copy_xattrs(&from, &to).context("give it its extended attributes")?;
    let time = |tv_sec, nsec: u64| Timespec {
        tv_sec,
        tv_nsec: nsec.cast_signed(),
    };
    let times = Timestamps {
        last_access: time(found.st_atime, found.st_atime_nsec),
        last_modification: time(found.st_mtime, found.st_mtime_nsec),
    };
    futimens(to, &times).context("give it its times")
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
