//! A gate with a name: for a child that is let go by a later process than the
//! one that made it.
//!
//! The child listens on a unix socket. Who connects to it takes the parent's
//! place at the gate: says "go", and hears what goes wrong, or by end of file
//! that the command runs.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, listen, socket,
};

use crate::gate::{Gate, Word};

/// The socket that the child listens on.
#[derive(Debug)]
pub struct NamedGate(OwnedFd);

impl AsFd for NamedGate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl NamedGate {
    /// Makes the gate `name` in the directory `place`, for a child to
    /// [wait at](crate::Inside::wait_at).
    ///
    /// # Errors
    /// Fails where the name is taken, or the directory cannot be written to.
    pub fn make(place: BorrowedFd, name: &str) -> Result<NamedGate> {
        let made = || {
            let socket = new_socket()?;
            bind(socket.as_raw_fd(), &address(place, name)?)?;
            listen(&socket, Backlog::new(1)?)?;
            Ok(NamedGate(socket))
        };
        made().map_err(|errno: Errno| {
            anyhow::Error::new(errno).context(format!("make the gate {name}"))
        })
    }

    /// Opens the gate, and returns when the command that stood behind it has
    /// been exec'ed.
    ///
    /// # Errors
    /// Fails with the child's own [`Failure`](crate::Failure) where it could
    /// not get that far, and where no child waits.
    pub fn open(place: BorrowedFd, name: &str) -> Result<()> {
        let connected = || {
            let socket = new_socket()?;
            connect(socket.as_raw_fd(), &address(place, name)?)?;
            Ok(socket)
        };
        let socket = connected().map_err(|errno: Errno| {
            anyhow::Error::new(errno).context("reach the container's first process")
        })?;
        let gate = Gate::of(socket);
        gate.go()?;
        match gate.hear()? {
            Word::End => Ok(()),
            Word::Failure(failure) => Err(failure.into()),
            Word::Terminal(_) | Word::Born | Word::Pause => {
                bail!("the container's first process said something that nobody asked for")
            }
        }
    }

    /// Child: waits for somebody who says "go". Who connects and is killed
    /// before that was nobody.
    pub(crate) fn await_opener(&self) -> Result<OwnedFd> {
        loop {
            let accepted = match accept4(self.0.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                Err(Errno::EINTR) => continue,
                accepted => accepted.context("wait for the container's start")?,
            };
            // SAFETY: the kernel has just made this descriptor for us alone.
            let gate = Gate::of(unsafe { OwnedFd::from_raw_fd(accepted) });
            if gate.wait_for_go().is_ok() {
                return Ok(gate.into());
            }
        }
    }
}

/// Packets keep their borders, as at the gate without a name.
fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)
}

/// By the descriptor of its directory, since a socket's path has an end after
/// 107 bytes (unix(7)).
fn address(place: BorrowedFd, name: &str) -> Result<UnixAddr, Errno> {
    UnixAddr::new(format!("/proc/self/fd/{}/{name}", place.as_raw_fd()).as_str())
}
