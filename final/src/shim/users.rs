//! Whose user namespace a shim lives in without root: its own, or that of another container's shim.

use std::fs::File;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use cli::Dirs;
use namespaces::{IdMap, Isolation, Joined};
use nix::sched::CloneFlags;

use super::spec;
use crate::state::Container;

/// What a shim needs of users, beside the rest of its isolation.
#[derive(Debug)]
pub(super) struct Users {
    /// A user namespace of its own, with these ids.
    pub(super) ids: Option<IdMap>,
    /// Or one that is there.
    pub(super) joined: Vec<Joined>,
}

impl Users {
    /// Those for a container. Who is to join a namespace of another container's has to be in the
    /// user namespace that owns it (setns(2)).
    ///
    /// # Errors
    /// The other container does not run.
    pub(super) fn of(container: &Container, dirs: &Dirs) -> Result<Users> {
        let ids = Isolation::users_only()?.ids;
        let host = &container.host;
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
        if ids.is_none() || others.is_empty() {
            let joined = Vec::new();
            return Ok(Users { ids, joined });
        }
        ensure!(
            others.len() == 1,
            "without root a container can share namespaces with one other container, and here are {}",
            others.len()
        );
        let joined = others
            .into_iter()
            .map(|id| {
                Ok(Joined {
                    file: namespace_of(id, dirs)?,
                    kinds: CloneFlags::CLONE_NEWUSER,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Users { ids: None, joined })
    }
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
