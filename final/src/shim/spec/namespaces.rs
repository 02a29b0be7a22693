//! Which namespaces are the container's own, and which it shares with whom.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use cli::Dirs;
use nix::sys::utsname::uname;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType as Kind};

use crate::runtime::{Runtime, Status};
use crate::shim;
use crate::state::{Container, Missing, Places};

/// So many containers in a row may share each other's network until its owner is found.
const MOST_SHARING: usize = 64;

/// Whose a namespace is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A new one.
    Own,
    /// That of whoever starts the container.
    Host,
    /// The first process of another container is in it.
    Others {
        /// That process.
        pid: i32,
        /// What the other container is called inside.
        hostname: String,
        domainname: String,
        /// The directory of its hosts, hostname and resolv.conf.
        data: PathBuf,
    },
}

/// Those that docker gives a choice of.
#[derive(Clone, Debug)]
pub(super) struct Namespaces {
    pub(super) pid: Whose,
    pub(super) ipc: Whose,
    pub(super) uts: Whose,
    pub(super) network: Whose,
    /// Whether there is neither shared memory nor a message queue in the file system (`--ipc none`).
    pub(super) bare_ipc: bool,
}

impl Namespaces {
    pub(super) fn of(container: &Container, dirs: &Dirs) -> Result<Namespaces> {
        let host = &container.host;
        let whose = |option: &str, mode: &str, own: &[&str]| {
            if own.contains(&mode) {
                return Ok(Whose::Own);
            }
            match mode.split_once(':') {
                None if mode == "host" => Ok(Whose::Host),
                Some(("container", id)) => {
                    others(dirs, id).with_context(|| format!("--{option} {mode}"))
                }
                _ => bail!("--{option} {mode}: it is neither host nor container:NAME"),
            }
        };
        let network = match host.network_mode.split_once(':') {
            None if host.network_mode == "host" => Whose::Host,
            Some(("container", id)) => others_network(dirs, id)?,
            _ => Whose::Own,
        };
        if let Some(("container", id)) = host.ipc_mode.split_once(':') {
            refuse_private(dirs, id)?;
        }
        Ok(Namespaces {
            pid: whose("pid", &host.pid_mode, &["", "private"])?,
            ipc: whose("ipc", &host.ipc_mode, &["", "private", "shareable", "none"])?,
            uts: whose("uts", &host.uts_mode, &["", "private"])?,
            network,
            bare_ipc: host.ipc_mode == "none",
        })
    }

    /// As the runtime wants them.
    pub(super) fn listed(&self) -> Vec<LinuxNamespace> {
        let choices = [
            (Kind::Pid, "pid", &self.pid),
            (Kind::Ipc, "ipc", &self.ipc),
            (Kind::Uts, "uts", &self.uts),
            (Kind::Network, "net", &self.network),
            (Kind::Mount, "mnt", &Whose::Own),
            (Kind::Cgroup, "cgroup", &Whose::Own),
        ];
        let listed = choices.into_iter().filter_map(|(kind, file, whose)| {
            let namespace = LinuxNamespaceBuilder::default().typ(kind);
            let namespace = match whose {
                Whose::Own => namespace,
                Whose::Host => return None,
                Whose::Others { pid, .. } => {
                    namespace.path(PathBuf::from(format!("/proc/{pid}/ns/{file}")))
                }
            };
            namespace.build().ok()
        });
        listed.collect()
    }

    /// What the container is to call its machine; `None`: the name is somebody else's to set.
    pub(super) fn hostname(&self, container: &Container) -> Option<String> {
        (self.uts == Whose::Own).then(|| self.known_as(container))
    }

    /// What the machine is called inside.
    pub(super) fn known_as(&self, container: &Container) -> String {
        let wanted = &container.config.hostname;
        let shares = matches!(self.network, Whose::Others { .. });
        if !wanted.is_empty() && self.uts == Whose::Own && !shares {
            return wanted.clone();
        }
        let hosts = || {
            let names = uname().ok()?;
            Some(names.nodename().to_string_lossy().into_owned())
        };
        match (&self.uts, &self.network) {
            // Who shares a network answers to its name.
            (Whose::Others { hostname, .. }, _) | (_, Whose::Others { hostname, .. }) => {
                hostname.clone()
            }
            (Whose::Host, _) | (_, Whose::Host) => hosts().unwrap_or_default(),
            _ => container.short_id().to_owned(),
        }
    }

    pub(super) fn domainname(&self, container: &Container) -> Option<String> {
        let wanted = match &self.network {
            Whose::Others { domainname, .. } if container.config.domainname.is_empty() => {
                domainname
            }
            _ => &container.config.domainname,
        };
        (self.uts == Whose::Own && !wanted.is_empty()).then(|| wanted.clone())
    }
}

fn others(dirs: &Dirs, id: &str) -> Result<Whose> {
    let (container, pid) = running(dirs, id)?;
    Ok(Whose::Others {
        pid,
        hostname: hostname_of(&container),
        domainname: container.config.domainname,
        data: Places::of(dirs, id).data,
    })
}

/// The network of the container `id`, which may be another's again: whoever owns it has given it the
/// names that all of them go by.
fn others_network(dirs: &Dirs, id: &str) -> Result<Whose> {
    let name = || Places::of(dirs, id).read().map(|other| other.name);
    let mut joined = others(dirs, id).map_err(|error| match name() {
        Ok(name) => error.context(format!(
            "cannot join network of a non running container: {name}"
        )),
        Err(_) => error,
    })?;
    let mut owner = Places::of(dirs, id).read()?;
    for _ in 0..MOST_SHARING {
        let Some(id) = owner.host.network_mode.strip_prefix("container:") else {
            break;
        };
        // It may have been removed; its network is still there, and so are the names.
        let Ok(next) = Places::of(dirs, id).read() else {
            break;
        };
        owner = next;
    }
    if let Whose::Others {
        hostname,
        domainname,
        data,
        ..
    } = &mut joined
    {
        *hostname = hostname_of(&owner);
        domainname.clone_from(&owner.config.domainname);
        *data = Places::of(dirs, &owner.id).data;
    }
    Ok(joined)
}

fn hostname_of(container: &Container) -> String {
    match container.config.hostname.as_str() {
        "" => container.short_id().to_owned(),
        name => name.to_owned(),
    }
}

/// The container `id`, and a process that is in its namespaces.
///
/// # Errors
/// It does not run.
pub fn running(dirs: &Dirs, id: &str) -> Result<(Container, i32)> {
    let places = Places::of(dirs, id);
    let container = places.read().with_context(|| Missing::container(id))?;
    let pid = match container.host.runtime {
        None => first_process(&places, id)?,
        // As long as its shim lives, nobody else gets that pid.
        Some(_) => shim::is_alive(&places)?.then_some(container.life.pid),
    };
    let pid = pid.filter(|pid| *pid != 0).with_context(|| {
        let name = &container.name;
        format!("container {name} is not running; `minidocker start {name}` starts it")
    })?;
    Ok((container, pid))
}

fn first_process(places: &Places, id: &str) -> Result<Option<i32>> {
    let Ok(found) = Runtime::at(places.runtime.clone()).find(&id.parse()?) else {
        return Ok(None);
    };
    let runs = matches!(found.status()?, Status::Running | Status::Paused);
    runs.then(|| found.member_pid()).transpose()
}

/// Who keeps its memory to itself has to be asked when it is created.
fn refuse_private(dirs: &Dirs, id: &str) -> Result<()> {
    let container = Places::of(dirs, id)
        .read()
        .with_context(|| Missing::container(id))?;
    ensure!(
        !["", "private", "none"].contains(&container.host.ipc_mode.as_str()),
        "cannot join IPC of container {}: non-shareable IPC (hint: create it with --ipc shareable)",
        container.name
    );
    Ok(())
}
