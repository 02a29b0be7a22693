//! `docker start`: a container gets a shim, and with it a first process.

use anyhow::{Result, bail};

use super::Containers;
use crate::shim::protocol::{Connection, Request};
use crate::shim::{self, Charge, First};
use crate::state::journal::{self, Event};
use crate::state::{Container, Locked, Status};

/// How somebody wants to be attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    /// Whether what they type is for the container's standard input.
    pub stdin: bool,
}

impl Containers {
    /// Starts a container, and returns when its command runs. Whoever wants to be attached sees
    /// everything from the first byte on. One that runs already is left as it is.
    ///
    /// # Errors
    /// It cannot be started: [`namespaces::exit_status`] of the error is 127 where there is no such
    /// command, 126 where it cannot be executed, and otherwise 125.
    pub fn start(&self, what: &str, attach: Option<Attach>) -> Result<Option<Connection>> {
        let locked = self.lock(what)?;
        match locked.container.life.status {
            Status::Created | Status::Exited => {}
            Status::Running | Status::Restarting => {
                let id = locked.container.id.clone();
                drop(locked);
                return attach
                    .map(|attach| Ok(self.attach(&id, attach)?.1))
                    .transpose();
            }
            Status::Paused => bail!("cannot start a paused container, try unpause instead"),
            Status::Removing => bail!("container is marked for removal and cannot be started"),
            Status::Dead => bail!("the container's state is damaged; it cannot be started"),
        }
        let mut charge = Charge {
            dirs: self.dirs.clone(),
            locked,
            first: None,
        };
        charge.locked.container.life.stopped_by_hand = false;
        charge.locked.container.life.restarts = 0;
        let mut ours = None;
        if let Some(Attach { stdin }) = attach {
            let (one, connection) = Connection::pair()?;
            ours = Some(one);
            charge.first = Some(First { connection, stdin });
            journal::tell(&self.dirs, &Event::of(&charge.locked.container, "attach"));
        }
        match shim::launch(&charge) {
            Ok(()) => Ok(ours),
            Err(error) => {
                self.give_up(charge.locked)?;
                Err(error)
            }
        }
    }

    /// Of a container that could not be started nothing runs, and `--rm` holds for it, too.
    fn give_up(&self, mut locked: Locked) -> Result<()> {
        locked.reread()?;
        self.settle(&mut locked)?;
        if locked.container.host.auto_remove {
            self.discard(&locked)?;
        }
        Ok(())
    }

    /// Attaches to a container that runs.
    ///
    /// # Errors
    /// It does not run.
    pub fn attach(&self, what: &str, attach: Attach) -> Result<(Container, Connection)> {
        let container = self.find(what)?;
        match container.life.status {
            Status::Running => {}
            Status::Paused => bail!("You cannot attach to a paused container, unpause it first"),
            Status::Restarting => {
                bail!("You cannot attach to a restarting container, wait until it is running")
            }
            _ => bail!("You cannot attach to a stopped container, start it first"),
        }
        let Some(connection) = Connection::to(&self.places(&container))? else {
            bail!("You cannot attach to a stopped container, start it first");
        };
        let stdin = attach.stdin;
        connection.request(&Request::Attach { stdin }, &[])?;
        journal::tell(&self.dirs, &Event::of(&container, "attach"));
        Ok((container, connection))
    }
}
