//! The container's root, while the host's is still there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{FileType, ResolveFlags, fstat, fstatfs, major};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::attributes::Attributes;
use crate::mount::Mount;
use crate::place::{self, Kind};

/// The container's root before it is `/`.
#[derive(Debug)]
pub struct Top(OwnedFd);

impl AsFd for Top {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Top {
    pub(crate) fn of(root: OwnedFd) -> Top {
        Top(root)
    }

    /// The root that this process has: after [`Top::pivot`] the container's.
    ///
    /// # Errors
    /// Fails where `/` cannot be opened.
    pub fn current() -> Result<Top> {
        place::open_top(Path::new("/")).map(Top)
    }

    /// Changes attributes of the root's own mount.
    ///
    /// # Errors
    /// As [`Attributes::apply`].
    pub fn change(&self, attributes: Attributes) -> Result<()> {
        attributes.apply(&self.0)
    }

    /// Opens where `mount` will be; what is missing is made.
    ///
    /// # Errors
    /// Fails where the target is of another kind, or behind a link that
    /// `mount` does not allow.
    pub fn place(&self, mount: &Mount, kind: Kind) -> Result<OwnedFd> {
        mount.find_place(&self.0, kind)
    }

    /// Opens a directory, which is made if it is missing; links are followed,
    /// but not out of the root.
    ///
    /// # Errors
    /// Fails where there is something else.
    pub fn directory(&self, path: &Path) -> Result<OwnedFd> {
        place::open(&self.0, path, Kind::Directory)
    }

    /// As [`Top::directory`], but no part of `path` may be a link.
    ///
    /// # Errors
    /// Fails where there is a link, or something else.
    pub fn plain_directory(&self, path: &Path) -> Result<OwnedFd> {
        place::open_plain(&self.0, path, Kind::Directory)
    }

    /// What is at `path` already; links are followed, but not out of the root.
    ///
    /// # Errors
    /// Fails where it cannot be looked up.
    pub fn existing(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match place::existing(&self.0, path, ResolveFlags::IN_ROOT) {
            Ok(place) => Ok(Some(place)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => {
                Err(errno).with_context(|| format!("look for {} in the container", path.display()))
            }
        }
    }

    /// Lets an open file appear at `target`, which is made if it is missing.
    ///
    /// # Errors
    /// Fails where no file can be at `target`, or a link leads there.
    pub fn bind_file(&self, file: BorrowedFd, target: &Path) -> Result<()> {
        let place = place::open_plain(&self.0, target, Kind::File)?;
        copy_tree(file, false)
            .and_then(|tree| move_tree(&tree, &place, "the container sees this file"))
            .with_context(|| {
                format!(
                    "mount an open file on {} in the container",
                    target.display()
                )
            })
    }

    /// Makes a terminal the container's `/dev/console`.
    ///
    /// # Errors
    /// Fails where `terminal` is not one of a devpts.
    pub fn bind_console(&self, terminal: &OwnedFd) -> Result<()> {
        let found = fstat(terminal).context("look at the terminal")?;
        let system = fstatfs(terminal).context("look at the terminal's file system")?;
        ensure!(
            FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
                && PTY_MAJORS.contains(&major(found.st_rdev))
                && system.f_type == DEVPTS,
            "what is to be the container's console is no pseudo-terminal of a devpts"
        );
        self.bind_file(terminal.as_fd(), Path::new("/dev/console"))
    }

    /// Makes it this process's `/`, and lets go of the host's.
    ///
    /// # Errors
    /// Fails where the kernel refuses; the process must then end.
    pub fn pivot(self) -> Result<()> {
        crate::pivot(&self.0)
    }
}

/// Slaves of pseudo-terminals (the kernel's devices.txt).
const PTY_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// DEVPTS_SUPER_MAGIC (linux/magic.h).
const DEVPTS: rustix::fs::FsWord = 0x1cd1;

/// A copy of the mount that `file` is in, cut at `file`, which is nowhere yet;
/// with `all`, what is mounted below comes along.
///
/// # Errors
/// Fails where the mount is not of this process's mount namespace.
pub fn copy_tree(file: BorrowedFd, all: bool) -> Result<OwnedFd> {
    tracing::info!(
        call = %format_args!(
            "open_tree({}, \"\", AT_EMPTY_PATH|OPEN_TREE_CLONE|OPEN_TREE_CLOEXEC{})",
            file.as_raw_fd(),
            if all { "|AT_RECURSIVE" } else { "" },
        ),
        "bound by its descriptor, for a path can change its meaning"
    );
    let mut flags = OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if all {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(file, "", flags).context("copy a mount")
}

/// Moves what is nowhere yet to an open place, for a `purpose` to be told.
///
/// # Errors
/// Fails where the kernel refuses.
pub fn move_tree(tree: &OwnedFd, place: &OwnedFd, purpose: &str) -> Result<()> {
    tracing::info!(
        call = %format_args!(
            "move_mount({}, \"\", {}, \"\", MOVE_MOUNT_F_EMPTY_PATH|MOVE_MOUNT_T_EMPTY_PATH)",
            tree.as_raw_fd(),
            place.as_raw_fd(),
        ),
        "{purpose}"
    );
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", place, "", flags)?)
}
