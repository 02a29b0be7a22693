//! Who waits for links to be freed.
//!
//! RTM_DELLINK takes a link out of sight within a millisecond or two. Then its sendmsg(2) goes on
//! waiting until no CPU can still be looking at it (RCU grace periods: 15 to 60 ms were measured for
//! a veth and a bridge), a wait that no signal ends and that holds up the exit of the process. So a
//! process of its own sends the message, and waits alone; nothing is left of it 0.1 s later.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};

use crate::netlink;

/// Has a message sent to rtnetlink by a process that this one need not wait for. `keep` is open in
/// it to the end, so that what the kernel does when that is closed last is waited for there as well.
pub(crate) fn send_behind(message: &[u8], keep: Option<BorrowedFd<'_>>) -> Result<()> {
    let route = netlink::open(SockProtocol::NetlinkRoute)?;
    tracing::info!(
        call = "clone(SIGCHLD)",
        "a process that ends at once, so that its child is init's to reap"
    );
    tracing::info!(
        call = "clone(SIGCHLD)",
        "the child: it waits, so that we need not, until the links are freed"
    );
    // SAFETY: the new process makes system calls only, and ends by _exit(2): no allocation, no
    // lock, no destructor, so that it may be born of a process with threads.
    match unsafe { fork() }.context("fork")? {
        ForkResult::Child => {
            // SAFETY: as above.
            if let Ok(ForkResult::Child) = unsafe { fork() } {
                alone(route.as_raw_fd(), keep.map(|fd| fd.as_raw_fd()), message);
            }
            // SAFETY: _exit(2) has no preconditions.
            unsafe { libc::_exit(0) }
        }
        ForkResult::Parent { child } => loop {
            match waitpid(child, None) {
                Err(Errno::EINTR) => {}
                // ECHILD: the process ignores SIGCHLD, and the kernel reaps for it.
                _ => return Ok(()),
            }
        },
    }
}

/// Sends, with nothing else of the parent's open: neither its locks nor the pipe that somebody
/// reads its output from, nor the directory that somebody wants to unmount.
fn alone(route: RawFd, keep: Option<RawFd>, message: &[u8]) {
    let keep = keep.unwrap_or(route);
    let (low, high) = (route.min(keep) as u32, route.max(keep) as u32);
    // SAFETY: system calls on numbers and on memory that lives as long as this process. An empty
    // range is refused, and does no harm; nor does a kernel before 5.9, which closes nothing.
    unsafe {
        if low > 0 {
            libc::syscall(libc::SYS_close_range, 0, low - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, low + 1, high.saturating_sub(1), 0);
        libc::syscall(libc::SYS_close_range, high + 1, u32::MAX, 0);
        libc::chdir(c"/".as_ptr());
        libc::send(route, message.as_ptr().cast(), message.len(), 0);
    }
}
