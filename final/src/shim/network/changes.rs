//! Into one more network, and out of one, while the container runs.

use std::os::fd::AsFd;

use anyhow::{Result, bail};
use cli::Dirs;

use super::attached::{Attached, Connection};
use super::bridges;
use super::edits::Edits;
use super::plugs::{Parted, Plugs};
use crate::state::{self, Container};

/// A change that is done, and can be undone as long as it is held.
#[must_use]
pub struct Change {
    /// The network that the container came into, or left.
    pub network: state::Network,
    /// What it left, still plugged in.
    parted: Option<Parted>,
    edits: Edits,
    /// What we had written into resolv.conf before.
    resolv_conf: String,
}

impl Attached {
    /// Plugs a container that runs into one more of the networks that it is to be in.
    ///
    /// # Errors
    /// It cannot be in it; the kernel refused a message. All is as it was then.
    pub fn connect(&mut self, container: &Container, name: &str, dirs: &Dirs) -> Result<Change> {
        let before = self.own_lines(container)?;
        let Attached {
            connection,
            netns: Some(netns),
            ..
        } = self
        else {
            bail!(
                "container sharing network namespace with another container or host cannot be \
                 connected to any other network"
            );
        };
        if connection.is_none()
            && let Some(place) = bridges(container, dirs)?
        {
            *connection = Some(Connection::Plugged(Plugs::none(place)));
        }
        let Some(Connection::Plugged(plugs)) = connection else {
            bail!(
                "without root, container {} was started apart from the network that others share; \
                 stop it, and connect it before it is started again",
                container.name
            );
        };
        let network = plugs.join(container, name, netns.as_fd(), dirs)?.clone();
        self.edited(container, &before, network, None)
    }

    /// Takes a container that runs out of a network, which it is not to be in any more. What is
    /// there of it goes when the answer is dropped.
    ///
    /// # Errors
    /// It is not in it; the kernel refused a message. All is as it was then.
    pub fn disconnect(&mut self, container: &Container, name: &str) -> Result<Change> {
        let before = self.own_lines(container)?;
        let (Some(Connection::Plugged(plugs)), Some(netns)) = (&mut self.connection, &self.netns)
        else {
            bail!(
                "container {} is not connected to network {name}",
                container.id
            );
        };
        let parted = plugs.part(name, netns.as_fd())?;
        let network = parted.network().clone();
        self.edited(container, &before, network, Some(parted))
    }

    /// Makes all as it was before a change.
    pub fn undo(&mut self, change: Change) {
        let Change {
            network,
            parted,
            edits,
            resolv_conf,
        } = change;
        edits.undo();
        self.resolv_conf = resolv_conf;
        let (Some(Connection::Plugged(plugs)), Some(netns)) = (&mut self.connection, &self.netns)
        else {
            return;
        };
        let undone = match parted {
            Some(parted) => plugs.take_back(parted, netns.as_fd()),
            None => plugs.part(&network.name, netns.as_fd()).map(drop),
        };
        if let Err(error) = undone {
            tracing::warn!("the network {} is not as it was: {error:#}", network.name);
        }
    }

    /// Has the container's files say what is so.
    fn edited(
        &mut self,
        container: &Container,
        before: &[String],
        network: state::Network,
        parted: Option<Parted>,
    ) -> Result<Change> {
        let mut change = Change {
            network,
            parted,
            edits: Edits::default(),
            resolv_conf: self.resolv_conf.clone(),
        };
        match self.edit(container, before, &mut change.edits) {
            Ok(()) => Ok(change),
            Err(error) => {
                self.undo(change);
                Err(error)
            }
        }
    }

    fn edit(&mut self, container: &Container, before: &[String], edits: &mut Edits) -> Result<()> {
        let Some(Connection::Plugged(plugs)) = &self.connection else {
            return Ok(());
        };
        let files = plugs.files()?;
        let after = files.own_lines(container);
        let without = |lines: &[String], others: &[String]| -> Vec<String> {
            let lines = lines.iter().filter(|line| !others.contains(line));
            lines.cloned().collect()
        };
        edits.hosts(
            &self.places.data,
            &without(before, &after),
            &without(&after, before),
        )?;
        let text = files.resolv_conf(container)?;
        if edits.resolv_conf(&self.places.data, &self.resolv_conf, &text)? {
            self.resolv_conf = text;
        }
        Ok(())
    }

    /// What the container's hosts says of itself now.
    fn own_lines(&self, container: &Container) -> Result<Vec<String>> {
        match &self.connection {
            Some(Connection::Plugged(plugs)) => Ok(plugs.files()?.own_lines(container)),
            _ => Ok(Vec::new()),
        }
    }
}
