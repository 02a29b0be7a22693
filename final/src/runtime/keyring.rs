//! A session keyring of the container's own: in the one that it would inherit
//! lie the caller's keys (session-keyring(7)).

use std::ffi::CString;

use anyhow::{Context, Result};
use nix::errno::Errno;

use super::Id;

/// As in linux/keyctl.h; libc has the number of the call only.
const KEYCTL_JOIN_SESSION_KEYRING: libc::c_ulong = 1;

/// Leaves the caller's session keyring for a new one.
pub(crate) fn leave(id: &Id) -> Result<()> {
    let name = CString::new(format!("_ses.{id}"))?;
    // SAFETY: the name is a C string that outlives the call.
    let made =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    match Errno::result(made) {
        // A kernel without keyrings, or a filter around us that hides them:
        // then the command cannot get at any either.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => Ok(()),
        made => made
            .map(drop)
            .context("make a session keyring for the container"),
    }
}
