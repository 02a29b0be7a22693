//! `docker rm`: a container, and all that it has written.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use namespaces::as_root;

use super::{Containers, stop};
use crate::engine::images::Images;
use crate::shim::protocol::Request;
use crate::state::{Container, Places, Status};

/// What a process takes to die, and much more.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// What may go with it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Removal {
    /// One that runs is killed.
    pub force: bool,
    /// Its anonymous volumes go, too.
    pub volumes: bool,
}

impl Containers {
    /// Finishes what removals left that were killed: it may be all that there is of a container.
    pub fn sweep(&self) {
        if let Err(error) = Images::open(&self.dirs) {
            tracing::debug!("{error:#}");
        }
    }

    /// Removes a container.
    ///
    /// # Errors
    /// It runs and that is not to be ended, or something of it cannot be removed.
    pub fn remove(&self, what: &str, how: Removal) -> Result<()> {
        let id = self.id_of(what)?;
        // One whose removal was given up is gone by now, and that is what is wanted.
        let Some(container) = self.look(&id)? else {
            return Ok(());
        };
        if container.life.status == Status::Dead && container.version == 0 {
            return self.remove_damaged(&container, how);
        }
        let until = Instant::now() + LAST_MOMENT;
        let mut locked = loop {
            if how.force {
                self.end(&container)?;
            }
            let Ok(locked) = self.lock(&id) else {
                // Its own `--rm`, or somebody else, was faster.
                return Ok(());
            };
            // Of a shim that is killed just now the socket goes a moment before its lock.
            let dies = how.force && locked.container.life.status.needs_shim();
            if !dies || Instant::now() > until {
                break locked;
            }
            drop(locked);
            std::thread::sleep(Duration::from_millis(1));
        };
        let status = locked.container.life.status;
        let name = &locked.container.name;
        ensure!(
            status != Status::Paused,
            "cannot remove container \"/{name}\": container is paused and must be unpaused first"
        );
        ensure!(
            !status.needs_shim(),
            "cannot remove container \"/{name}\": container is {status}: stop the container before removing or force remove"
        );
        // Should the removal be given up halfway, whoever finishes it does the same.
        locked.container.host.auto_remove |= how.volumes;
        self.discard(&locked)
    }

    /// Kills a container that runs, and waits until that is written down.
    fn end(&self, container: &Container) -> Result<()> {
        let mut locked = match self.lock(&container.id) {
            Ok(locked) => locked,
            Err(_) if !self.places(container).data.exists() => return Ok(()),
            Err(error) => return Err(error),
        };
        if !locked.container.life.status.needs_shim() {
            return Ok(());
        }
        stop::note_by_hand(&mut locked);
        let waits = locked.container.life.status == Status::Restarting;
        drop(locked);
        let Some(shim) = self.watch(container)? else {
            return Ok(());
        };
        if waits {
            let _ = self.ask(container, &Request::Cancel);
        }
        self.kill_all(container, &shim)
    }

    /// One whose state cannot be read: nobody can say what it was, and so nothing is kept of it.
    fn remove_damaged(&self, container: &Container, how: Removal) -> Result<()> {
        ensure!(
            how.force,
            "the state of container {} is damaged ({}); `minidocker rm -f` removes what is left of it",
            container.id,
            container.life.error
        );
        let places = Places::of(&self.dirs, &container.id);
        let runtime = crate::runtime::Runtime::at(places.runtime.clone());
        runtime.delete(&container.id.parse()?, true)?;
        let _ = places.forget();
        as_root(|| images::Store::open(&self.dirs.data)?.discard_container(&container.id))?;
        // It could not say what it is called.
        for name in self.names.all()? {
            self.names.give_back(&name, &container.id)?;
        }
        Ok(())
    }
}
