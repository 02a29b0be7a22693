//! `docker pause` and `docker unpause`: all processes stop where they are.

use anyhow::{Result, bail, ensure};

use super::Containers;
use crate::shim::protocol::Request;
use crate::state::Status;

impl Containers {
    /// Stops all processes of a container where they are.
    ///
    /// # Errors
    /// It does not run, or is paused already.
    pub fn pause(&self, what: &str) -> Result<()> {
        let container = self.find(what)?;
        match container.life.status {
            Status::Running => self.ask(&container, &Request::Pause),
            Status::Paused => bail!("Container {} is already paused", container.id),
            Status::Restarting => bail!(
                "Container {} is restarting, wait until the container is running",
                container.id
            ),
            _ => bail!("Container {} is not running", container.id),
        }
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// It is not paused.
    pub fn unpause(&self, what: &str) -> Result<()> {
        let container = self.find(what)?;
        ensure!(
            container.life.status == Status::Paused,
            "Container {} is not paused",
            container.id
        );
        self.ask(&container, &Request::Resume)
    }
}
