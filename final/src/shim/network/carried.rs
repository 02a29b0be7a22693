//! Without root, and in no network that somebody made: a program of its own carries a container's
//! packets.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use network::{Carrier, Publish, Reserved, Target};

use super::again::Again;
use super::ports;
use super::relay::Relay;
use crate::state::{self, Port};

/// A container with a carrier.
pub struct Carried {
    /// `None`: it has ended, and was not begun again.
    carrier: Option<(Carrier, OwnedFd)>,
    /// What it takes of the host's ports.
    carried: Vec<Publish>,
    /// What it does not.
    pub relay: Option<Relay>,
    ports: Vec<Port>,
}

impl Carried {
    /// Connects a network namespace, with ports that the carrier takes and others that are copied.
    /// `directory` is the carrier's. `None`: there is no program that could.
    ///
    /// # Errors
    /// A port cannot be had, or is asked for and nothing could carry it.
    pub fn connect(
        netns: &File,
        carried: Vec<Publish>,
        copied: &[Reserved],
        directory: &Path,
    ) -> Result<Option<Carried>> {
        let Some(carrier) = Carrier::connect(&target(netns)?, &carried, directory)? else {
            return Ok(None);
        };
        let netns = netns.try_clone().context("dup a network namespace")?;
        let mut relay = ports::relay(copied.iter(), Some(netns))?;
        if let Some(relay) = &mut relay {
            relay.lead_to(|port| (Carrier::ADDRESS, port.container).into());
        }
        let ports = carried.iter().copied();
        let ports = ports.chain(copied.iter().map(Reserved::port));
        Ok(Some(Carried {
            carrier: Some(with_end(carrier)?),
            ports: ports.map(ports::of).collect(),
            carried,
            relay,
        }))
    }

    /// Has it connected again after an [`isolation`](Carried::isolation), if that is worth anything.
    ///
    /// # Errors
    /// As [`connect`](Carried::connect).
    pub fn reconnect(&mut self, netns: &File, directory: &Path, again: &mut Again) -> Result<()> {
        self.carrier = None;
        let begun = again.begin(|| Carrier::begin(&target(netns)?, &self.carried, directory));
        self.carrier = begun.transpose()?.map(with_end).transpose()?;
        Ok(())
    }

    /// What can be read when the carrier has ended; `None`: it is no more.
    pub fn isolation(&self) -> Option<BorrowedFd<'_>> {
        let (_, ended) = self.carrier.as_ref()?;
        Some(ended.as_fd())
    }

    /// What people are told about it.
    pub fn seen(&self) -> state::Endpoint {
        // The hardware address is the carrier's choice.
        state::Endpoint {
            interface: "eth0".to_owned(),
            address: Some(Carrier::ADDRESS),
            prefix: Carrier::PREFIX,
            gateway: Some(Carrier::GATEWAY),
            leads_out: true,
            ..state::Endpoint::default()
        }
    }

    /// The ports that lead to it.
    pub fn ports(&self) -> Vec<Port> {
        self.ports.clone()
    }
}

fn target(netns: &File) -> Result<Target> {
    let netns = netns.try_clone().context("dup a network namespace")?;
    Ok(Target::Netns(netns))
}

/// And what can be read when it has ended.
fn with_end(carrier: Carrier) -> Result<(Carrier, OwnedFd)> {
    let ended = carrier.ended()?;
    Ok((carrier, ended))
}
