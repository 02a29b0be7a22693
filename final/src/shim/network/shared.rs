//! Where bridges are: here, as root; and without root in a network namespace that all containers of
//! one user's networks share, in a user namespace that their shims share.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use anyhow::{Result, ensure};
use cli::Dirs;

use super::again::Again;
use super::uplink::{self, Uplink};
use crate::state::{Container, Places};

/// Where bridges are.
#[derive(Debug)]
pub enum Place {
    /// In the network that we are in.
    Here,
    /// In this network namespace; and who connects it to the outside, unless nobody does.
    Shared(File, Option<Uplink>),
}

impl Place {
    /// Finds the shared one, for a container.
    ///
    /// # Errors
    /// Its shim is outside of the user namespace to which the networks belong.
    pub fn shared(container: &Container, dirs: &Dirs) -> Result<Place> {
        ensure!(
            uplink::is_member(),
            "without root, container {} was started apart from the network that others share; stop \
             it, and connect it before it is started again",
            container.name
        );
        let (uplink, netns) = uplink::find(dirs, None, &layers(&container.id, dirs))?;
        Ok(Place::Shared(netns, Some(uplink)))
    }

    /// Works where the bridges are.
    ///
    /// # Errors
    /// The namespace is not ours to enter, and what the work says.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self {
            Place::Here => work(),
            Place::Shared(netns, _) => network::within(netns.as_fd(), work),
        }
    }

    /// The network namespace, where it is not the one that we are in.
    pub fn netns(&self) -> Option<&File> {
        match self {
            Place::Here => None,
            Place::Shared(netns, _) => Some(netns),
        }
    }

    /// What can be read when nothing connects it to the outside any more.
    pub fn isolation(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Place::Shared(_, Some(uplink)) => Some(uplink.process().as_fd()),
            _ => None,
        }
    }

    /// Has it connected again after an [`isolation`](Place::isolation), if that is worth anything.
    ///
    /// # Errors
    /// There can be no process that does it.
    pub fn reconnect(&mut self, id: &str, dirs: &Dirs, again: &mut Again) -> Result<()> {
        if let Place::Shared(netns, uplink) = self {
            *uplink = None;
            let found = again.begin(|| uplink::find(dirs, Some(netns), &layers(id, dirs)));
            *uplink = found.transpose()?.map(|(uplink, _)| uplink);
        }
        Ok(())
    }
}

/// Where a shim has its container's layers stacked.
fn layers(id: &str, dirs: &Dirs) -> PathBuf {
    Places::of(dirs, id).data.join("merged")
}
