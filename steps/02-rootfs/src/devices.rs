//! `/dev`: the few devices that every program may expect.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FileType, Mode, makedev, mknodat, symlinkat};
use rustix::io::Errno;

use crate::mount::Mount;
use crate::path_of;
use crate::place::{self, Kind};

/// Name, major and minor number (the kernel's devices.txt).
pub const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Name and what it points at (runtime-spec, "Dev symbolic links").
pub const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Fills the empty tmpfs that is mounted on the container's `/dev`.
pub(crate) fn populate(top: &OwnedFd) -> Result<()> {
    // task 02.3 {
    let dev = place::open_plain(top, Path::new("/dev"), Kind::Directory)?;
    for (name, major, minor) in DEVICES {
        make_device(&dev, name, makedev(major, minor))
            .or_else(|errno| match errno {
                // No user namespace may make devices (user_namespaces(7)).
                Errno::PERM => borrow_device(top, name),
                errno => Err(errno.into()),
            })
            .with_context(|| format!("make /dev/{name} in the container"))?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name)
            .with_context(|| format!("link /dev/{name} to {target} in the container"))?;
    }
    Ok(())
    // } todo!("task 02.3: fill /dev with devices and links (book: 2.3)")
}

fn make_device(dev: &OwnedFd, name: &str, number: u64) -> Result<(), Errno> {
    tracing::info!(
        call = %format_args!("mknod(\"/dev/{name}\", S_IFCHR|0666, {number:#x})"),
        "one of the devices that every program may expect"
    );
    let mode = Mode::from_raw_mode(0o666);
    mknodat(dev.as_fd(), name, FileType::CharacterDevice, mode, number)
}

/// Binds the host's device over an empty file.
fn borrow_device(top: &OwnedFd, name: &str) -> Result<()> {
    let path = PathBuf::from("/dev").join(name);
    let place = place::open_plain(top, &path, Kind::File)?;
    Mount::bind(path.clone(), path, false).mount_at(&path_of(place.as_fd()))
}
