//! Whose user namespace a shim lives in without root: its own, that of another container's shim, or
//! that of this user's networks.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use namespaces::{IdMap, Isolation, Joined, Signals};
use nix::sched::CloneFlags;

use super::network::uplink::{self, Membership};
use super::spec;
use crate::state::{Container, HostConfig, Network};

/// What a shim needs of users, beside the rest of its isolation.
#[derive(Debug)]
pub(super) struct Users {
    /// A user namespace of its own, with these ids.
    pub(super) ids: Option<IdMap>,
    /// Or one that is there.
    pub(super) joined: Vec<Joined>,
    /// What keeps this user's networks there.
    pub(super) membership: Option<Membership>,
}

impl Users {
    /// Those for a container. Who is to join a namespace of another container's, or a network, has to
    /// be in the user namespace that owns it (setns(2)).
    ///
    /// # Errors
    /// The other container does not run, or is elsewhere than the networks; there can be none.
    pub(super) fn of(container: &Container, dirs: &Dirs, signals: &Signals) -> Result<Users> {
        let ids = Isolation::users_only()?.ids;
        let other = match ids.is_some() {
            true => other(&container.host, dirs)?,
            false => None,
        };
        if !is_in_networks(&container.host) || network::is_privileged()? {
            return Ok(Users {
                ids: ids.filter(|_| other.is_none()),
                joined: other.into_iter().collect(),
                membership: None,
            });
        }
        let (membership, users) = uplink::enter(dirs, signals)?;
        if let (Some(other), Some(users)) = (&other, &users) {
            ensure!(
                uplink::is_same(&other.file, &users.file)?,
                "without root, a container can share namespaces only with one that is in a network \
                 that somebody made as well, or is not in such a network itself"
            );
        }
        Ok(Users {
            ids: None,
            joined: users.into_iter().collect(),
            membership: Some(membership),
        })
    }
}

/// The user namespace of the container whose namespaces a container is to join, if there is one.
fn other(host: &HostConfig, dirs: &Dirs) -> Result<Option<Joined>> {
    let modes = [
        &host.network_mode,
        &host.pid_mode,
        &host.ipc_mode,
        &host.uts_mode,
    ];
    let mut others: Vec<&str> = modes
        .into_iter()
        .filter_map(|mode| mode.strip_prefix("container:"))
        .collect();
    others.sort_unstable();
    others.dedup();
    ensure!(
        others.len() <= 1,
        "without root a container can share namespaces with one other container, and here are {}",
        others.len()
    );
    let Some(id) = others.first() else {
        return Ok(None);
    };
    Ok(Some(Joined {
        file: namespace_of(id, dirs)?,
        kinds: CloneFlags::CLONE_NEWUSER,
    }))
}

/// Whether a container is to be in a network that somebody made.
fn is_in_networks(host: &HostConfig) -> bool {
    let names = host.memberships();
    names.into_iter().any(|(name, _)| name != Network::DEFAULT)
}

/// The user namespace of a container's first process, which its shim lives in as well.
fn namespace_of(id: &str, dirs: &Dirs) -> Result<OwnedFd> {
    let (container, pid) = spec::running(dirs, id)?;
    let path = format!("/proc/{pid}/ns/user");
    let file = File::open(&path).with_context(|| format!("open {path}"))?;
    // If it still runs, it was it that we looked at.
    ensure!(
        spec::running(dirs, id)?.1 == pid,
        "container {} has just been started again",
        container.name
    );
    Ok(file.into())
}
