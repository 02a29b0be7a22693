//! From a container on disk to one that runs: once at first, and again for each restart.

use std::fs::File;
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use jiff::Timestamp;
use namespaces::Running;
use rustix::fs::{Mode, OFlags};

use super::execs::Execs;
use super::network::{Attached, Network};
use super::runner::Runner;
use super::streams::{Console, Streams};
use super::{Shim, end, spec, volumes};
use crate::runtime::{Bundle, Settings};
use crate::state::journal::{self, Event};
use crate::state::{Locked, Status};

/// A container whose command runs.
pub(super) struct Run {
    /// Its first process, our child.
    pub(super) process: Running,
    /// What may be done to it.
    pub(super) runner: Runner,
    pub(super) streams: Streams,
    pub(super) execs: Execs,
    /// Its link, its address and its ports, until they are dropped.
    pub(super) network: Attached,
    /// Whether its standard input ends with the client who was there first.
    pub(super) stdin_once: bool,
    /// Volumes that nobody else may have meanwhile.
    #[expect(dead_code, reason = "only held, to be dropped")]
    held: Vec<File>,
}

impl Shim<'_> {
    /// Starts the container, and writes down that it runs.
    pub(super) fn begin(&self, locked: &mut Locked) -> Result<Run> {
        let container = &locked.container;
        let (config, host) = (&container.config, &container.host);

        // An address, while there is nobody yet who could have one. (step 4)
        let network = Network::prepare(container, self.places, self.dirs)?;

        // All that it is to be, as a bundle.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let rootfs = self.places.data.join("merged");
        let root = rustix::fs::open(&rootfs, flags, Mode::empty())
            .with_context(|| format!("open {}", rootfs.display()))?;
        let held = volumes::mount(container, self.dirs)?;
        volumes::fill(container, self.dirs, root.as_fd())?;
        let mut spec = spec::of(container, self.places, self.dirs, root.as_fd())?;
        network.enter(&mut spec);
        drop(root);
        let bundle = Bundle::write(&self.places.data, spec)?;

        // Its streams are ours to read, before there is anybody to write.
        let console = config.tty.then(|| Console::open(self.places)).transpose()?;
        let pipes = (!config.tty).then(|| Streams::pipes(config.open_stdin));
        let (pipes, theirs) = pipes.transpose()?.unzip();
        let settings = Settings {
            console_socket: console.as_ref().map(Console::path),
            streams: theirs,
            init: host.init,
            ..Settings::default()
        };

        // Created: held at the gate, in a network of its own, and let go. It is connected while it
        // is still busy with its files.
        let connect = |pid| network.attach(pid, container, self.dirs);
        let (born, attached) = Runner::create(container, self.places, bundle, settings, connect)?;
        let complete = || -> Result<_> {
            let streams = match console {
                Some(console) => Streams::of_terminal(console.take()?)?,
                None => pipes.unwrap_or_default(),
            };
            Ok((attached.seen()?, streams))
        };
        let (seen, streams) = match complete() {
            Ok(complete) => complete,
            Err(error) => {
                born.give_up()?;
                return Err(error);
            }
        };
        let (process, runner) = born.start()?;

        let stdin_once = config.stdin_once;
        let life = &mut locked.container.life;
        life.status = Status::Running;
        life.pid = process.pid().as_raw();
        life.started = Some(Timestamp::now());
        life.error.clear();
        life.exit_code = 0;
        life.oom_killed = false;
        (life.networks, life.ports) = (seen.networks, seen.ports);
        if let Err(error) = locked.save() {
            runner.delete()?;
            return Err(error);
        }
        volumes::tell(self.dirs, &locked.container, "mount");
        journal::tell_networks(self.dirs, &locked.container, "connect");
        journal::tell(self.dirs, &Event::of(&locked.container, "start"));
        Ok(Run {
            process,
            runner,
            streams,
            execs: Execs::default(),
            network: attached,
            stdin_once,
            held,
        })
    }

    /// Starts it once more. Where somebody has asked it to stop meanwhile, or it cannot be started,
    /// the container's lock stays with us: that was its end.
    pub(super) fn begin_again(&self, locked: &mut Locked) -> Result<Option<Run>> {
        locked.relock()?;
        let wanted = locked.container.life.status == Status::Restarting
            && !locked.container.life.stopped_by_hand;
        if !wanted {
            return Ok(None);
        }
        locked.container.life.restarts += 1;
        match self.begin(locked) {
            Ok(run) => {
                locked.unlock()?;
                Ok(Some(run))
            }
            Err(error) => {
                end::not_begun(locked, &error)?;
                Ok(None)
            }
        }
    }
}
