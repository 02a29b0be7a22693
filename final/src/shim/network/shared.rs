//! Where bridges are: here, as root; and without root in a network namespace that all containers of
//! one user's networks share, in a user namespace that their shims share.

use std::fs::File;

use anyhow::Result;

/// Where bridges are.
#[derive(Debug)]
pub enum Place {
    /// In the network that we are in.
    Here,
    /// In this network namespace.
    Shared(File),
}

impl Place {
    /// Works where the bridges are.
    ///
    /// # Errors
    /// The namespace is not ours to enter, and what the work says.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        use std::os::fd::AsFd;
        match self {
            Place::Here => work(),
            Place::Shared(netns) => network::within(netns.as_fd(), work),
        }
    }
}
