//! `docker commit`: an image of a container, as it is now.

use std::time::Instant;

use anyhow::{Result, bail, ensure};
use images::{Digest, Store};

use super::{Containers, PATIENCE, answer_of};
use crate::engine::answer::Answer;
use crate::engine::images::{Commit, Images};
use crate::shim::protocol::{Connection, Request};
use crate::state::journal::{self, Event};
use crate::state::{Container, Status};

impl Containers {
    /// Makes an image of a container, and returns its id. What every container gets is left out,
    /// and so are volumes.
    ///
    /// # Errors
    /// There is no such container, it wrote something that cannot be in a layer, an instruction that
    /// cannot be understood, a full disk. The container goes on in any case.
    pub fn commit(&self, what: &str, commit: &Commit) -> Result<Digest> {
        let container = self.find(what)?;
        let status = container.life.status;
        if matches!(status, Status::Dead | Status::Removing) {
            bail!(
                "You cannot commit container {} which is {status}",
                container.id
            );
        }
        let held = match commit.pause && status == Status::Running {
            true => self.hold(&container),
            false => None,
        };
        let made = self.commit_as_it_is(&container.id, commit);
        // Somebody else may have let it go on, or ended it.
        if held.is_some() && self.find(&container.id)?.life.status == Status::Paused {
            self.unpause(&container.id)?;
        }
        made
    }

    /// Lets the container stand still until the connection ends, with us at the latest.
    fn hold(&self, container: &Container) -> Option<Connection> {
        let held = self.begin_to_ask(container, &Request::Hold);
        let held = held.and_then(|shim| {
            answer_of(&shim, container, Instant::now() + PATIENCE)?;
            Ok(shim)
        });
        // Without a cgroup nobody can hold all of its processes at once.
        held.inspect_err(|error| {
            tracing::warn!("the container goes on while it is committed: {error:#}");
        })
        .ok()
    }

    fn commit_as_it_is(&self, id: &str, commit: &Commit) -> Result<Digest> {
        let container = self.find(id)?;
        // One that does not run stays so, and stays.
        let _locked = match container.life.status.needs_shim() {
            true => None,
            false => Some(self.lock(id)?),
        };
        let store = Store::open(&self.dirs.data)?;
        let base = store.find(&container.image)?;
        let overlay = store.kept_overlay(id)?;
        let answer = Answer::new()?;
        let status = Images::change(&self.dirs, |images| {
            let image = images.commit(&base, (&overlay.upper, &container.config), commit)?;
            answer.tell(image.id().to_string().as_bytes()).map(|()| 0)
        })?;
        ensure!(status == 0, "interrupted");
        let id = String::from_utf8(answer.hear()?)?;
        journal::tell(&self.dirs, &Event::of(&container, "commit"));
        id.parse()
    }
}
