//! Which runtime a container has: the built-in one, or another program that reads the same bundle.

use std::os::fd::OwnedFd;

use anyhow::Result;
use namespaces::Running;
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use super::external::External;
use crate::runtime::{self, Bundle, Id, Runtime, Settings};
use crate::state::{Container, Places};

/// A container's runtime. Whatever it makes is our child.
pub(super) enum Runner {
    BuiltIn(Runtime),
    External(External),
}

/// A container that waits to be started.
pub(super) struct Born {
    pub(super) process: Running,
    made: Made,
}

#[expect(
    clippy::large_enum_variant,
    reason = "there is one of them, and only while it is being started"
)]
enum Made {
    BuiltIn(runtime::Container),
    External(External, Id),
}

impl Runner {
    /// The one that the container was created for.
    pub(super) fn of(container: &Container, places: &Places) -> Runner {
        match &container.host.runtime {
            None => Runner::BuiltIn(Runtime::at(places.runtime.clone())),
            Some(program) => Runner::External(External::of(program, places)),
        }
    }

    /// Makes the container `id` from a bundle, up to its command; and connects it, by its first
    /// process' pid, as soon as there is somebody to connect.
    pub(super) fn create<T>(
        &self,
        id: &Id,
        bundle: &Bundle,
        settings: Settings,
        connect: impl FnOnce(Pid) -> Result<T>,
    ) -> Result<(Born, T)> {
        match self {
            Runner::BuiltIn(runtime) => {
                let (created, connected) = runtime.create(id, bundle, &settings, connect)?;
                let born = Born {
                    process: created.process,
                    made: Made::BuiltIn(created.container),
                };
                Ok((born, connected))
            }
            Runner::External(external) => {
                let born = Born {
                    process: external.create(id, bundle, settings)?,
                    made: Made::External(external.clone(), id.clone()),
                };
                match connect(born.process.pid()) {
                    Ok(connected) => Ok((born, connected)),
                    Err(error) => {
                        born.give_up()?;
                        Err(error)
                    }
                }
            }
        }
    }

    /// Runs one more process in it.
    pub(super) fn exec(&self, id: &Id, process: &Process, settings: Settings) -> Result<Running> {
        match self {
            Runner::BuiltIn(runtime) => runtime.find(id)?.exec(process, &settings),
            Runner::External(external) => external.exec(id, process, settings),
        }
    }

    /// Its `/`.
    pub(super) fn open_root(&self, id: &Id) -> Result<OwnedFd> {
        match self {
            Runner::BuiltIn(runtime) => runtime.find(id)?.open_root(),
            Runner::External(external) => external.open_root(),
        }
    }

    /// Sends a signal, to its first process or to all.
    pub(super) fn kill(&self, id: &Id, signal: i32, all: bool) -> Result<()> {
        match self {
            Runner::BuiltIn(runtime) => runtime.find(id)?.kill(signal, all),
            Runner::External(external) => external.kill(id, signal, all),
        }
    }

    /// Stops all of its processes where they are.
    pub(super) fn pause(&self, id: &Id) -> Result<()> {
        match self {
            Runner::BuiltIn(runtime) => runtime.find(id)?.pause(),
            Runner::External(external) => external.pause(id),
        }
    }

    /// Lets them go on, if they are stopped.
    pub(super) fn resume(&self, id: &Id) -> Result<()> {
        match self {
            Runner::BuiltIn(runtime) => {
                let container = runtime.find(id)?;
                match container.status()? {
                    runtime::Status::Paused => container.resume(),
                    _ => Ok(()),
                }
            }
            Runner::External(external) => external.resume(id),
        }
    }

    /// How many of its processes the kernel killed for want of memory, as far as that is known.
    pub(super) fn oom_kills(&self, id: &Id) -> Result<u64> {
        match self {
            Runner::BuiltIn(runtime) => runtime.find(id)?.oom_kills(),
            Runner::External(_) => Ok(0),
        }
    }

    /// Ends all of its processes, and removes what is left of it; there need be nothing.
    pub(super) fn delete(&self, id: &Id) -> Result<()> {
        match self {
            Runner::BuiltIn(runtime) => runtime.delete(id, true),
            Runner::External(external) => external.delete(id),
        }
    }
}

impl Born {
    /// Lets it go on to its command. What became of it, if that fails, is removed.
    pub(super) fn start(self) -> Result<Running> {
        let started = match &self.made {
            Made::BuiltIn(container) => container.start(),
            Made::External(external, id) => external.start(id),
        };
        match started {
            Ok(()) => Ok(self.process),
            Err(error) => {
                self.give_up()?;
                Err(error)
            }
        }
    }

    /// Removes it.
    pub(super) fn give_up(self) -> Result<()> {
        match self.made {
            Made::BuiltIn(container) => container.delete(true),
            Made::External(external, id) => external.delete(&id),
        }
    }
}

/// Ends what a shim that was killed has left of a container.
///
/// # Errors
/// Something cannot be ended or removed.
pub fn end(container: &Container, places: &Places) -> Result<()> {
    Runner::of(container, places).delete(&container.id.parse()?)
}
