//! Which runtime a container has: the built-in one, or another program that reads the same bundle.

use std::os::fd::OwnedFd;

use anyhow::Result;
use namespaces::Running;
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use super::external::External;
use crate::runtime::{self, Bundle, Id, Runtime, Settings};
use crate::state::{Container, Places};

/// A container as its runtime has made it. Whoever is added to it is our child.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them for each container that runs"
)]
pub(super) enum Runner {
    BuiltIn(runtime::Container),
    External(External, Id),
}

/// A container that waits to be started.
pub(super) struct Born {
    pub(super) process: Running,
    runner: Runner,
}

impl Runner {
    /// Makes a container from a bundle, up to its command, by the runtime that it was created for;
    /// and connects it, by its first process' pid, as soon as there is somebody to connect.
    pub(super) fn create<T>(
        container: &Container,
        places: &Places,
        bundle: Bundle,
        settings: Settings,
        connect: impl FnOnce(Pid) -> Result<T>,
    ) -> Result<(Born, T)> {
        let id: Id = container.id.parse()?;
        let Some(program) = &container.host.runtime else {
            let runtime = Runtime::at(places.runtime.clone());
            let (created, connected) = runtime.create(&id, bundle, &settings, connect)?;
            let born = Born {
                process: created.process,
                runner: Runner::BuiltIn(created.container),
            };
            return Ok((born, connected));
        };
        let external = External::of(program, places);
        let born = Born {
            process: external.create(&id, &bundle, settings)?,
            runner: Runner::External(external, id),
        };
        match connect(born.process.pid()) {
            Ok(connected) => Ok((born, connected)),
            Err(error) => {
                born.give_up()?;
                Err(error)
            }
        }
    }

    /// Runs one more process in it.
    pub(super) fn exec(&self, process: &Process, settings: Settings) -> Result<Running> {
        match self {
            Runner::BuiltIn(container) => container.exec(process, &settings),
            Runner::External(external, id) => external.exec(id, process, settings),
        }
    }

    /// Its `/`.
    pub(super) fn open_root(&self) -> Result<OwnedFd> {
        match self {
            Runner::BuiltIn(container) => container.open_root(),
            Runner::External(external, _) => external.open_root(),
        }
    }

    /// Sends a signal, to its first process or to all.
    pub(super) fn kill(&self, signal: i32, all: bool) -> Result<()> {
        match self {
            Runner::BuiltIn(container) => container.kill(signal, all),
            Runner::External(external, id) => external.kill(id, signal, all),
        }
    }

    /// Stops all of its processes where they are.
    pub(super) fn pause(&self) -> Result<()> {
        match self {
            Runner::BuiltIn(container) => container.pause(),
            Runner::External(external, id) => external.pause(id),
        }
    }

    /// Lets them go on, if they are stopped.
    pub(super) fn resume(&self) -> Result<()> {
        match self {
            Runner::BuiltIn(container) => match container.status()? {
                runtime::Status::Paused => container.resume(),
                _ => Ok(()),
            },
            Runner::External(external, id) => external.resume(id),
        }
    }

    /// How many of its processes the kernel killed for want of memory, as far as that is known.
    pub(super) fn oom_kills(&self) -> Result<u64> {
        match self {
            Runner::BuiltIn(container) => container.oom_kills(),
            Runner::External(..) => Ok(0),
        }
    }

    /// Ends all of its processes, and removes what is left of it.
    pub(super) fn delete(self) -> Result<()> {
        match self {
            Runner::BuiltIn(container) => container.delete(true),
            Runner::External(external, id) => external.delete(&id),
        }
    }
}

impl Born {
    /// Lets it go on to its command. What became of it, if that fails, is removed.
    pub(super) fn start(self) -> Result<(Running, Runner)> {
        let started = match &self.runner {
            // Up to here it was nobody's but ours.
            Runner::BuiltIn(container) => container.start().and_then(|()| container.unlock()),
            Runner::External(external, id) => external.start(id),
        };
        match started {
            Ok(()) => Ok((self.process, self.runner)),
            Err(error) => {
                self.give_up()?;
                Err(error)
            }
        }
    }

    /// Removes it.
    pub(super) fn give_up(self) -> Result<()> {
        self.runner.delete()
    }
}

/// Ends what a shim that was killed has left of a container; there need be nothing.
///
/// # Errors
/// Something cannot be ended or removed.
pub fn end(container: &Container, places: &Places) -> Result<()> {
    let id = container.id.parse()?;
    match &container.host.runtime {
        None => Runtime::at(places.runtime.clone()).delete(&id, true),
        Some(program) => External::of(program, places).delete(&id),
    }
}
