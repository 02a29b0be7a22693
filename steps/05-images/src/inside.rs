//! Paths below a directory that somebody else filled: opened once, and never out of it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// openat2(2) as if `root` were `/`: neither `..` nor a symlink, absolute or not, leaves it.
///
/// `..` may fail with EAGAIN while anything anywhere is renamed, since the kernel then cannot tell
/// whether it stayed inside; asking again is what the man page advises.
pub(crate) fn open(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC;
    let mut tries = 100;
    loop {
        match rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries > 0 => tries -= 1,
            result => return result,
        }
    }
}

/// Opens a regular file to read, and nothing else: a fifo would block, a device would act.
pub(crate) fn open_file(root: impl AsFd, path: &[u8]) -> Result<File> {
    let file = open(
        root,
        path,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
    )?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    ensure!(kind == FileType::RegularFile, "it is not a regular file");
    Ok(File::from(file))
}

/// A path from an archive as it may be printed: no control characters, no more than a line of it.
pub(crate) fn shown(path: &[u8]) -> String {
    match path.get(..160) {
        Some(start) => format!("{}… ({} bytes)", start.escape_ascii(), path.len()),
        None => path.escape_ascii().to_string(),
    }
}

/// The directory and the last name of a path: `a/b/c` is `a/b` and `c`, `c` is the root and `c`.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Resolves `.`, `..` and doubled slashes in a name by the letters alone.
///
/// # Errors
/// A relative name that climbs above where it started. An absolute one stays at the root, as `/..`
/// does.
pub fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                let inside = parts.pop().is_some() || name.starts_with(b"/");
                ensure!(inside, "{} points out of the archive", shown(name));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// `mkdir -p` in the root that the calling process has, as `/`'s owner and open to all.
///
/// Not by plain paths: while we hold directories of the host open, `/proc/self/fd/N/..` names one,
/// and an image's `WORKDIR` would have directories made there (CVE-2024-21626).
///
/// # Errors
/// Something on the way is not a directory, a link to nowhere, or one of procfs' magic links.
pub fn make_directory(path: &Path) -> Result<()> {
    let what = || format!("make the directory {}", path.display());
    let root = directory(Path::new("/"))?;
    let path = path.as_os_str().as_encoded_bytes();
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for end in ends.map(|(end, _)| end).chain([path.len()]) {
        let find = |path| open(&root, path, OFlags::PATH | OFlags::DIRECTORY);
        match find(&path[..end]) {
            Err(Errno::NOENT) => {
                let (dir, name) = split(&path[..end]);
                let parent = find(dir).with_context(what)?;
                let mode = Mode::from_raw_mode(0o755);
                rustix::fs::mkdirat(&parent, name, mode)
                    .and_then(|()| rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()))
                    .with_context(what)?;
            }
            found => drop(found.with_context(what)?),
        }
    }
    Ok(())
}

/// Opens a directory of ours, by its path.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).with_context(|| format!("open {}", path.display()))
}
