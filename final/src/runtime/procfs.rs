//! Writing to `/proc` and reading it, and nothing that only looks like it.
//!
//! What is written there (labels, kernel parameters) confines the container. A
//! runtime that can be led to write it somewhere else leaves the container free,
//! or changes the host (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881).

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstat, fstatfs, openat2, readlinkat};

/// The inode of procfs' root (`PROC_ROOT_INO`, include/linux/proc_fs.h).
const ROOT_INODE: u64 = 1;

/// Opens the host's procfs, while nobody else can have touched it.
///
/// # Errors
/// `/proc` is missing or something else.
pub(super) fn open() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let none = ResolveFlags::NO_SYMLINKS;
    let proc = openat2(CWD, "/proc", flags, Mode::empty(), none).context("open /proc")?;
    let magic = fstatfs(&proc).context("statfs /proc")?.f_type;
    let inode = fstat(&proc).context("stat /proc")?.st_ino;
    ensure!(
        magic == rustix::fs::PROC_SUPER_MAGIC && inode == ROOT_INODE,
        "/proc is not a mounted procfs: mount -t proc proc /proc"
    );
    Ok(proc)
}

/// Writes a whole value to a file of the procfs opened above. The name is taken
/// inside it, through no mount on top of it and no link but procfs' own `self`.
///
/// # Errors
/// The kernel's, for the file or for the value.
pub(super) fn write(proc: BorrowedFd, name: &str, value: &str) -> Result<()> {
    open_file(proc, name, OFlags::WRONLY)?
        .write_all(value.as_bytes())
        .with_context(|| format!("write {value:?} to /proc/{name}"))
}

/// Reads a file of the procfs opened above, found as carefully.
///
/// # Errors
/// The kernel's.
pub(super) fn read(proc: BorrowedFd, name: &str) -> Result<String> {
    let mut text = String::new();
    open_file(proc, name, OFlags::RDONLY)?
        .read_to_string(&mut text)
        .with_context(|| format!("read /proc/{name}"))?;
    Ok(text)
}

fn open_file(proc: BorrowedFd, name: &str, how: OFlags) -> Result<File> {
    let flags = how | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let inside = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let file = openat2(proc, name, flags, Mode::empty(), inside);
    Ok(file.with_context(|| format!("open /proc/{name}"))?.into())
}

/// This process's pid in the pid namespace of the procfs opened above.
///
/// # Errors
/// The process is not in it.
pub(super) fn own_pid(proc: BorrowedFd) -> Result<i32> {
    let pid = readlinkat(proc, "self", Vec::new()).context("read /proc/self")?;
    let pid = pid.to_str().ok().and_then(|pid| pid.parse().ok());
    pid.context("/proc/self is not a pid")
}
