//! `network disconnect`.

use anyhow::{Result, ensure};

use super::Networks;
use crate::engine::containers::Containers;
use crate::shim::protocol::Request;
use crate::state::journal;

impl Networks {
    /// Takes a container out of a network: at once, if it runs. With `force` also out of one that is
    /// there no more.
    ///
    /// # Errors
    /// It is not in it, or cannot be without.
    pub fn disconnect(&self, network: &str, container: &str, force: bool) -> Result<()> {
        let containers = Containers::open(&self.dirs)?;
        let mut locked = containers.lock(container)?;
        let found = self.find(network);
        let name = match &found {
            Ok(found) => found.name.clone(),
            Err(_) if force => network.to_owned(),
            Err(_) => return found.map(drop),
        };
        let id = locked.container.id.clone();
        let host = &mut locked.container.host;
        ensure!(
            name != "host" || !host.is_in("host"),
            "container cannot be disconnected from host network or connected to host network"
        );
        ensure!(
            host.is_in(&name),
            "container {id} is not connected to network {name}"
        );
        // Of `none` nothing is there that the shim would have to take down.
        if name == "none" || !locked.container.life.status.has_processes() {
            locked.container.host.leave(&name);
            locked.save()?;
            if let Ok(network) = found {
                let event = network.event("disconnect").with("container", id);
                journal::tell(&self.dirs, &event);
            }
            return Ok(());
        }
        let container = locked.container.clone();
        // The shim needs it.
        drop(locked);
        containers.ask(&container, &Request::Disconnect { network: name })
    }
}
