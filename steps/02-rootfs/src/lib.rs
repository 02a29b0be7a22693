//! The root file system: a process that sees files of its own.
//!
//! ```text
//!   before                         after
//!   /            the host's        /            DIR, bound onto itself
//!   /srv/DIR     a directory       ├─ proc      proc of the new pid namespace
//!                                  ├─ dev       tmpfs: null zero … pts shm mqueue
//!                                  ├─ sys       sysfs of the new net namespace, read-only
//!                                  ├─ data      a volume: a bind of the host's /home/me/data
//!                                  └─ …         what DIR holds
//! ```
//!
//! The host's tree is not hidden but gone: pivot_root(2) swaps it with the new
//! one, and then it is unmounted. chroot(2) would only move the process's idea
//! of `/`, and a process with CAP_SYS_CHROOT can move it back.

#![warn(missing_docs)]

mod attributes;
pub mod devices;
pub mod host;
mod libraries;
mod mount;
mod place;
mod top;
pub mod volume;

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, fchdir, pivot_root};

pub use attributes::{Attributes, MOUNT_ATTR_NOSYMFOLLOW, OF_MOUNT, map_ids};
pub use mount::Mount;
pub use place::{Kind, kind_of};
pub use top::{Top, copy_tree, move_tree};
pub use volume::Volume;

/// What will be `/` in the container.
#[derive(Debug)]
pub struct Root {
    /// The directory, as the host sees it.
    pub path: PathBuf,
    /// Whether the directory itself may not be written to. Mounts in it have
    /// their own flags.
    pub read_only: bool,
    /// What is mounted in it, in this order.
    pub mounts: Vec<Mount>,
}

impl Root {
    /// A directory with the mounts that every program expects: `/proc`, `/dev`
    /// and a read-only `/sys`.
    #[must_use]
    pub fn new(path: PathBuf) -> Root {
        Root {
            path,
            read_only: false,
            mounts: vec![
                Mount::proc(),
                Mount::dev(),
                Mount::devpts(),
                Mount::shm(),
                Mount::mqueue(),
                Mount::sysfs(),
            ],
        }
    }
}

/// Makes `root` this process's `/` and lets go of the host's. Call it in a
/// mount namespace of one's own whose mounts are private.
///
/// # Errors
/// Fails at the first mount that the kernel refuses. The namespace is then of
/// no use for a container, and must be left by ending the process.
pub fn enter(root: &Root) -> Result<()> {
    root.prepare()?.pivot()
}

impl Root {
    /// Mounts everything, and leaves the host's tree in its place: until
    /// [`Top::pivot`] both can be reached.
    ///
    /// # Errors
    /// As [`enter`].
    pub fn prepare(&self) -> Result<Top> {
        // Directories and devices are made with the modes that we ask for.
        let before = umask(Mode::empty());
        let top = bind_root(self)?;
        for mount in &self.mounts {
            mount.put(&top)?;
            if mount.is_dev() {
                devices::populate(&top)?;
            }
        }
        if self.read_only {
            mount::set_read_only(&top, false).with_context(|| {
                format!(
                    "make the container's root {} read-only",
                    self.path.display()
                )
            })?;
        }
        umask(before);
        Ok(Top::of(top))
    }
}

/// pivot_root(2) wants a mount point, and a directory becomes one when it is
/// bound onto itself. Submounts come along, for in a user namespace a bind
/// without them would uncover what they hide, and fails with EINVAL
/// (mount_namespaces(7)).
fn bind_root(root: &Root) -> Result<OwnedFd> {
    // task 02.1 {
    let wanted = || format!("use {} as the container's root", root.path.display());
    // "." would stay what it was: below the bind, not on top of it.
    let path = root.path.canonicalize().with_context(wanted)?;
    Mount::bind(path.clone(), PathBuf::from("/"), false)
        .mount_at(&path)
        .with_context(wanted)?;
    place::open_top(&path)
    // } todo!("task 02.1: make a directory a mount point (book: 2.1)")
}

/// Swaps the roots and drops the old one. With "." for both paths the kernel
/// puts the old root on top of the new one, so that no directory is needed to
/// keep it in (pivot_root(2), NOTES).
fn pivot(top: &OwnedFd) -> Result<()> {
    // task 02.2 {
    fchdir(top).context("change to the container's root")?;
    tracing::info!(
        call = r#"pivot_root(".", ".")"#,
        "the container's root becomes /, with the host's on top of it"
    );
    pivot_root(".", ".").map_err(why_not_swapped)?;
    tracing::info!(
        call = r#"umount2(".", MNT_DETACH)"#,
        "with the host's root its files are out of reach"
    );
    umount2(".", MntFlags::MNT_DETACH).context("let go of the host's root")?;
    chdir("/").context("change to the container's /")
    // } todo!("task 02.2: swap the roots, and let go of the old one (book: 2.2)")
}

/// Says what the kernel means by its refusal.
fn why_not_swapped(errno: Errno) -> anyhow::Error {
    let reason = match errno {
        Errno::EINVAL => {
            "; the kernel allows it in no initramfs, where the root must first be \
             moved to a tmpfs or a disk"
        }
        Errno::EBUSY => "; the container's root cannot be the / that it is to be swapped with",
        _ => "",
    };
    anyhow::Error::new(errno).context(format!("swap the roots with pivot_root{reason}"))
}

/// How a descriptor is named for calls that take only paths.
fn path_of(place: BorrowedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", place.as_raw_fd()))
}
