//! What can be changed of a mount one attribute at a time, with all others left
//! as they are (mount_setattr(2)).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::Result;
use nix::errno::Errno;
use nix::mount::MsFlags;
use sys_mount::MountFlags;

/// A change of a mount's attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `MOUNT_ATTR_*` bits that it gets. One of access times also needs
    /// `MOUNT_ATTR__ATIME` in [`Attributes::clear`].
    pub set: u64,
    /// `MOUNT_ATTR_*` bits that it loses.
    pub clear: u64,
    /// `MS_SHARED` and its like, or 0.
    pub propagation: u64,
    /// Whether the mounts below it are changed too.
    pub all: bool,
}

/// As in linux/mount.h; libc has no name for it.
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

/// The flags of mount(2) that are attributes of a mount, not of its file system.
pub const OF_MOUNT: [(libc::c_ulong, u64); 8] = [
    (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
    (libc::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
    (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
    (libc::MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
];

/// The attributes among `flags`.
pub(crate) fn of_flags(flags: MountFlags) -> u64 {
    let has = |flag| flags.contains(MountFlags::from_bits_retain(flag));
    let bits = OF_MOUNT.iter().filter(|(flag, _)| has(*flag));
    bits.fold(0, |all, (_, bit)| all | bit)
}

impl Attributes {
    /// A change of propagation; `MS_REC` among the flags takes in those below.
    #[must_use]
    pub fn propagation(flags: MsFlags) -> Attributes {
        Attributes {
            propagation: (flags - MsFlags::MS_REC).bits(),
            all: flags.contains(MsFlags::MS_REC),
            ..Attributes::default()
        }
    }

    /// Those among the flags of a new mount.
    #[must_use]
    pub fn of_flags(flags: MountFlags) -> Attributes {
        Attributes {
            set: of_flags(flags),
            ..Attributes::default()
        }
    }

    /// Changes an open mount.
    ///
    /// # Errors
    /// Fails where the descriptor is not that of a mount's root, and in a user
    /// namespace where the change would undo what the host has set.
    pub fn apply(&self, mount: &OwnedFd) -> Result<()> {
        let attributes = libc::mount_attr {
            attr_set: self.set,
            attr_clr: self.clear,
            propagation: self.propagation,
            userns_fd: 0,
        };
        tracing::info!(
            call = %format_args!(
                "mount_setattr({}, \"\", AT_EMPTY_PATH{}, {{attr_set={:#x}, attr_clr={:#x}, propagation={:#x}}})",
                mount.as_raw_fd(),
                if self.all { "|AT_RECURSIVE" } else { "" },
                self.set,
                self.clear,
                self.propagation,
            ),
            "these attributes change, and no others"
        );
        Ok(mount_setattr(mount, flags(self.all), &attributes)?)
    }
}

/// Makes files below `mount`, which must not be anywhere yet, appear with the
/// owners that the user namespace `users` would show.
///
/// # Errors
/// Fails where the file system or the caller may not.
pub fn map_ids(mount: &OwnedFd, users: BorrowedFd, all: bool) -> Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    tracing::info!(
        call = %format_args!(
            "mount_setattr({}, \"\", AT_EMPTY_PATH{}, {{attr_set=MOUNT_ATTR_IDMAP, userns_fd={}}})",
            mount.as_raw_fd(),
            if all { "|AT_RECURSIVE" } else { "" },
            users.as_raw_fd(),
        ),
        "files appear with other owners"
    );
    Ok(mount_setattr(mount, flags(all), &attributes)?)
}

fn flags(all: bool) -> libc::c_int {
    libc::AT_EMPTY_PATH | if all { libc::AT_RECURSIVE } else { 0 }
}

/// mount_setattr(2) of an open mount.
pub(crate) fn mount_setattr(
    mount: &OwnedFd,
    flags: libc::c_int,
    attributes: &libc::mount_attr,
) -> Result<(), Errno> {
    // SAFETY: the path is an empty string and the structure is passed with its
    // own size; the kernel only reads both.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const *attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done).map(drop)
}
