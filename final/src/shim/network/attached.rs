//! A network that is up, and what is to be seen to meanwhile: who calls, and who has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::Result;
use cli::Dirs;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::again::Again;
use super::carried::Carried;
use super::plugs::Plugs;
use super::relay::Relay;
use crate::keeper::{Asking, Registration};
use crate::state::{self, Places, Port};

/// A network that is up. Dropping it undoes everything: cables and rules, leases and ports.
#[must_use]
pub struct Attached {
    pub(super) connection: Option<Connection>,
    pub(super) names: Option<Names>,
    /// The container's network namespace, wherever its first process goes.
    pub(super) netns: Option<File>,
    /// Who connects it to the outside, and may be needed again.
    pub(super) outside: Again,
    /// Where its hosts, its resolv.conf and a carrier's socket are.
    pub(super) places: Places,
    /// The resolv.conf that we wrote.
    pub(super) resolv_conf: String,
}

/// Where a container's questions for names are answered.
pub(super) struct Names {
    registration: Registration,
    again: Again,
}

/// What is told about it.
#[derive(Debug, Default)]
pub struct Seen {
    /// The container's places, by the networks' names.
    pub networks: BTreeMap<String, state::Endpoint>,
    /// The ports that are published.
    pub ports: Vec<Port>,
}

pub(super) enum Connection {
    Plugged(Plugs),
    Carried(Box<Carried>),
}

impl Attached {
    /// What people are told about it.
    ///
    /// # Errors
    /// None that a network which is up could have.
    pub fn seen(&self) -> Result<Seen> {
        Ok(match &self.connection {
            None => Seen::default(),
            Some(Connection::Plugged(plugs)) => Seen {
                networks: plugs.seen()?,
                ports: plugs.ports(),
            },
            Some(Connection::Carried(carried)) => Seen {
                networks: BTreeMap::from([(state::Network::DEFAULT.to_owned(), carried.seen())]),
                ports: carried.ports(),
            },
        })
    }

    /// What can be read when there is something to [attend](Attached::attend) to.
    pub fn polled(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ended = [self.silence(), self.isolation()].into_iter().flatten();
        ended.chain(self.relay().into_iter().flat_map(Relay::polled))
    }

    /// Sees to who calls by a way that the kernel has not, and to who has ended and is needed again.
    ///
    /// # Errors
    /// There can be no process that does what is needed.
    pub fn attend(&mut self, id: &str, dirs: &Dirs) -> Result<()> {
        if self.silence().is_some_and(is_readable) {
            self.break_silence(id, dirs);
        }
        if self.isolation().is_some_and(is_readable) {
            self.reconnect(id, dirs)?;
        }
        let relay = match &mut self.connection {
            Some(Connection::Plugged(plugs)) => plugs.relay_mut(),
            Some(Connection::Carried(carried)) => carried.relay.as_mut(),
            None => None,
        };
        match relay.filter(|relay| relay.polled().any(is_readable)) {
            Some(relay) => relay.attend(),
            None => Ok(()),
        }
    }

    /// Makes anew what is gone of it altogether: the way outside, cables.
    ///
    /// # Errors
    /// There can be no process that leads outside; the kernel refused a message.
    pub fn make_anew(&mut self, id: &str, dirs: &Dirs) -> Result<()> {
        if self.isolation().is_none_or(is_readable) {
            self.outside = Again::default();
            self.reconnect(id, dirs)?;
        }
        match (&self.connection, &self.netns) {
            (Some(Connection::Plugged(plugs)), Some(netns)) => plugs.lay_again(netns.as_fd()),
            _ => Ok(()),
        }
    }

    /// Has it connected to the outside again, unless that is worth nothing.
    fn reconnect(&mut self, id: &str, dirs: &Dirs) -> Result<()> {
        let Attached {
            connection: Some(connection),
            netns: Some(netns),
            outside,
            places,
            ..
        } = self
        else {
            return Ok(());
        };
        match connection {
            Connection::Carried(carried) => carried.reconnect(netns, &places.run, outside),
            Connection::Plugged(plugs) => match plugs.place() {
                Some(place) => place.reconnect(id, dirs, outside),
                None => Ok(()),
            },
        }
    }

    /// Who copies what arrives at some of its ports.
    fn relay(&self) -> Option<&Relay> {
        match &self.connection {
            Some(Connection::Plugged(plugs)) => plugs.relay(),
            Some(Connection::Carried(carried)) => carried.relay.as_ref(),
            None => None,
        }
    }

    /// What can be read when nothing connects the container's networks to the outside any more.
    fn isolation(&self) -> Option<BorrowedFd<'_>> {
        match &self.connection {
            Some(Connection::Plugged(plugs)) => plugs.isolation(),
            Some(Connection::Carried(carried)) => carried.isolation(),
            None => None,
        }
    }

    /// What can be read when nobody answers the container's questions for names any more.
    fn silence(&self) -> Option<BorrowedFd<'_>> {
        Some(self.names.as_ref()?.registration.connection())
    }

    /// Has the questions answered again, unless that is worth nothing.
    fn break_silence(&mut self, id: &str, dirs: &Dirs) {
        let Some(Names { mut again, .. }) = self.names.take() else {
            return;
        };
        again.begin(|| self.settle_names(id, dirs));
        if let Some(names) = &mut self.names {
            names.again = again;
        }
    }

    /// Has the container's questions for names answered, if it is in a network where there are names
    /// and they are not yet.
    pub fn settle_names(&mut self, id: &str, dirs: &Dirs) {
        let (Some(Connection::Plugged(plugs)), Some(netns)) = (&self.connection, &self.netns)
        else {
            return;
        };
        if !plugs.has_names() {
            self.names = None;
            return;
        }
        if self.names.is_some() {
            return;
        }
        self.names = Names::settled(Asking::of(dirs, id, netns.as_fd()));
    }
}

impl Names {
    /// Waits until the keeper answers. A container that nobody answers runs all the same.
    pub(super) fn settled(asking: Result<Asking>) -> Option<Names> {
        match asking.and_then(Asking::settle) {
            Ok(registration) => Some(Names {
                registration,
                again: Again::default(),
            }),
            Err(error) => {
                tracing::warn!("the container will not find others by their names: {error:#}");
                None
            }
        }
    }
}

fn is_readable(file: BorrowedFd<'_>) -> bool {
    let mut polled = [PollFd::new(file, PollFlags::POLLIN)];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1..))
}
