//! Names in a tree that is somebody else's.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// Opens what `path` leads to from `from`, by the rules of `resolve` (openat2(2)).
///
/// On its way up (`..`, in a link's text as well) the kernel cannot tell whether it stayed inside while
/// anything anywhere is renamed or mounted, and says EAGAIN; to ask again is what the man page advises.
///
/// # Errors
/// The kernel's; also where the way leads out.
pub fn look_up(
    from: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let mut tries = 100;
    loop {
        match openat2(&from, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries > 0 => tries -= 1,
            found => return found,
        }
    }
}
