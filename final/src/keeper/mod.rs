//! The process beside the containers of networks that people made: it knows their names.
//!
//! ```text
//! RUN/network/keeper/lock     held (flock) by the keeper for life
//! RUN/network/keeper/socket   shims register their containers here
//! ```

use std::net::Ipv4Addr;
use std::os::fd::{BorrowedFd, OwnedFd};

use anyhow::Result;
use cli::Dirs;

use crate::state::Container;

/// Where a container finds its resolver.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// A container that the keeper answers, until this is dropped (or its holder dies).
#[derive(Debug)]
pub struct Registration {
    connection: Option<OwnedFd>,
}

impl Registration {
    /// Registers a container: the sockets of its resolver are made in its network namespace, and
    /// handed to the keeper, which is begun where there is none.
    ///
    /// # Errors
    /// The namespace is not ours to enter, or there can be no keeper.
    pub fn new(
        _dirs: &Dirs,
        _container: &Container,
        _netns: BorrowedFd<'_>,
    ) -> Result<Registration> {
        Ok(Registration { connection: None })
    }

    /// What is readable when the keeper is gone; then [`Registration::new`] again.
    #[must_use]
    pub fn connection(&self) -> Option<&OwnedFd> {
        self.connection.as_ref()
    }
}
