//! The story of step 5: a command in an image.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;

use anyhow::Result;
use cgroups::{Cgroup, Limits};
use cli::Dirs;
use namespaces::{Command, ContainerId, Isolation, Signals, User, as_root};
use network::{Network, Settings};
use rootfs::{Mount, Root, Volume, volume};

use crate::options::Options;
use crate::shelf;

/// The whole life of a container; returns the command's exit status.
pub fn run(dirs: &Dirs, options: &Options) -> Result<u8> {
    let id = ContainerId::random()?;
    let hostname = options.hostname.as_deref().unwrap_or(id.as_str());
    let mut isolation = Isolation::full()?;
    isolation.hostname = Some(hostname);

    // The image says how to run it, and the user has the last word.
    let store = shelf::open(dirs)?;
    let image = shelf::find(&store, &options.image())?;
    let config = image.config();
    let args = config.command(options.entrypoint.as_deref(), options.command())?;
    let mut command = Command::new(&args, hostname);
    command.init = options.init;
    command.cwd = Some(options.workdir.clone().unwrap_or_else(|| config.cwd()));
    let env = config.variables();
    let wanted = options.user.as_deref().filter(|user| !user.is_empty());
    let user = wanted.unwrap_or(&config.user);

    // From here on Ctrl-C waits until there is a container to pass it on to.
    let signals = Signals::hold()?;

    // Its layers stay as they are; what the container writes goes on top.
    let container = store.container(&image, id.as_str())?;
    let overlay = container.overlay();
    let mut root = Root::new(container.root());
    root.read_only = options.read_only;

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
        overlay.mount()?;
        rootfs::enter(&root)?;

        // Only in its root do names mean what the image says that they mean.
        let user = images::lookup_user(File::open("/")?.as_fd(), user)?;
        let mut command = command.clone();
        let home = OsStr::new("HOME=");
        command.set_env([home, user.home.as_os_str()].into_iter().collect());
        for variable in env.iter().chain(&options.env) {
            command.set_env(variable.clone());
        }
        command.user = Some(User {
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
        });
        if let Some(dir) = &command.cwd {
            images::make_directory(dir)?;
        }
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
    let status = child.release(&signals)?.wait(&signals)?;
    if let Some(cgroup) = &cgroup
        && cgroup.oom_kills()? > 0
    {
        tracing::warn!("out of memory: the kernel killed a process at the container's limit");
    }
    // What cannot be removed now the drop tries again, and tells.
    let _ = as_root(|| container.remove());
    Ok(status)
}
