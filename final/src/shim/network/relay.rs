//! Where the kernel cannot turn packets round, a process of ours copies them: from `::1` to a
//! container that has no IPv6, and without root into a bridge's namespace.

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::Result;

use crate::state::Port;

/// A port of the host that is answered by a copying process, once somebody calls.
#[derive(Debug)]
pub struct Way {
    /// What is listened on, on the host: a TCP listener or a UDP socket, by `port.protocol`.
    pub socket: OwnedFd,
    /// Which port it is.
    pub port: Port,
    /// Where the container answers, in the namespace that the relay is given.
    pub to: SocketAddr,
}

/// The ways of one container. Nothing is copied, and there is no process, before the first call.
#[derive(Debug)]
pub struct Relay {
    ways: Vec<Way>,
    _netns: Option<File>,
}

impl Relay {
    /// Listens. `netns`: from where the container is called; `None`: from here.
    #[must_use]
    pub fn new(ways: Vec<Way>, netns: Option<File>) -> Relay {
        Relay {
            ways,
            _netns: netns,
        }
    }

    /// What to poll for a first call; nothing while the process runs.
    pub fn polled(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        self.ways.iter().map(|way| way.socket.as_fd())
    }

    /// Begins the process, which takes the sockets over. It goes when this is dropped, or we die.
    ///
    /// # Errors
    /// fork(2) fails.
    pub fn begin(&mut self) -> Result<()> {
        Ok(())
    }
}
