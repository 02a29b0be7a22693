//! The story of step 4: a command with an address of its own.

use std::os::fd::AsFd;

use anyhow::Result;
use cgroups::{Cgroup, Limits};
use cli::Dirs;
use namespaces::{Command, ContainerId, Isolation, Signals};
use network::{Network, Settings};
use rootfs::{Mount, Root, Volume, host, volume};

use crate::Options;

/// The whole life of a container; returns the command's exit status.
pub fn run(options: &Options) -> Result<u8> {
    let id = ContainerId::random()?;
    let hostname = options.hostname.as_deref().unwrap_or(id.as_str());
    let mut isolation = Isolation::full()?;
    isolation.hostname = Some(hostname);
    let mut command = Command::new(&options.command, hostname);
    command.init = options.init;

    // Without --rootfs, one made once from the host's own programs.
    let dirs = Dirs::of_caller(isolation.ids.is_none())?;
    let default = dirs.data.join("rootfs");
    if options.rootfs.is_none() {
        host::ensure(&default)?;
    }
    let mut root = Root::new(options.rootfs.clone().unwrap_or(default));
    root.read_only = options.read_only;

    // From here on Ctrl-C waits until there is a container to pass it on to.
    let signals = Signals::hold()?;

    // Limits first: the child is born under them.
    let limits = Limits {
        memory: options.memory,
        cpus: options.cpus,
        pids: options.pids_limit,
    };
    let cgroup = Cgroup::create("minidocker", id.as_str(), &limits)?;
    isolation.cgroup = cgroup.as_ref().map(AsFd::as_fd);
    root.mounts
        .extend(cgroup.as_ref().map(|_| Mount::cgroup2()));

    // An address is leased before the child is there, for its /etc/hosts names it.
    let settings = Settings {
        run_dir: &dirs.run,
        mode: options.network,
        privileged: isolation.ids.is_none(),
        ports: &options.publish,
    };
    let network = Network::open(&settings, id.as_str(), hostname)?;
    let needs_loopback = network.needs_loopback();
    let mut volumes: Vec<Volume> = network.files().map(Volume::from).into();
    volumes.extend_from_slice(&options.volumes);
    root.mounts.extend(volume::mounts(&volumes));

    // Born with its namespaces, and held at the gate.
    let child = namespaces::spawn(&isolation, |inside| {
        if needs_loopback {
            network::loopback_up()?;
        }
        rootfs::enter(&root)?;
        inside.exec(&command)
    })?;
    if let Some(cgroup) = &cgroup
        && !child.born_in_cgroup()
    {
        cgroup.add(child.pid())?;
    }

    // Plugged in from outside, while the child waits.
    let _attached = network.attach(child.pid())?;

    // Open the gate, and stay until the end.
    let running = child.release(&signals).map_err(|error| {
        match host::why_missing(&root.path, &options.command[0]) {
            Some(why) if options.rootfs.is_none() => error.context(why),
            _ => error,
        }
    })?;
    let status = running.wait(&signals)?;
    if let Some(cgroup) = &cgroup
        && cgroup.oom_kills()? > 0
    {
        tracing::warn!("out of memory: the kernel killed a process at the container's limit");
    }
    Ok(status)
}
