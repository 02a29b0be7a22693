//! A network that is up, and what is to be seen to meanwhile: who calls, and who has ended.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use cli::Dirs;
use network::Carrier;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::plugs::Plugs;
use super::relay::Relay;
use crate::keeper::{Asking, Registration};
use crate::state::{self, Port};

/// Who answers questions for less than that may not do better at the next attempt.
const WORTH: Duration = Duration::from_secs(1);

/// So many of them one after the other are enough.
const MOST_SHORT: u8 = 10;

/// A network that is up. Dropping it undoes everything: cables and rules, leases and ports.
#[must_use]
pub struct Attached {
    pub(super) connection: Option<Connection>,
    pub(super) names: Option<Names>,
    /// The container's network namespace, wherever its first process goes.
    pub(super) netns: Option<File>,
    /// Where its hosts and resolv.conf are.
    pub(super) directory: PathBuf,
    /// The resolv.conf that we wrote.
    pub(super) resolv_conf: String,
}

/// Where a container's questions for names are answered.
pub(super) struct Names {
    registration: Registration,
    since: Instant,
    /// How many before this one were not worth it.
    short: u8,
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

/// By a program that carries the packets.
pub(super) struct Carried {
    #[expect(dead_code, reason = "only held, to be dropped")]
    pub(super) carrier: Carrier,
    pub(super) ports: Vec<Port>,
    pub(super) relay: Option<Relay>,
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
            Some(Connection::Carried(carried)) => {
                // The hardware address is the carrier's choice.
                let endpoint = state::Endpoint {
                    interface: "eth0".to_owned(),
                    address: Some(Carrier::ADDRESS),
                    prefix: Carrier::PREFIX,
                    gateway: Some(Carrier::GATEWAY),
                    leads_out: true,
                    ..state::Endpoint::default()
                };
                Seen {
                    networks: BTreeMap::from([(state::Network::DEFAULT.to_owned(), endpoint)]),
                    ports: carried.ports.clone(),
                }
            }
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
        if self.isolation().is_some_and(is_readable)
            && let Some(Connection::Plugged(plugs)) = &mut self.connection
            && let Some(place) = plugs.place()
        {
            place.reconnect(id, dirs)?;
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

    /// Lays the cables again that somebody took away altogether.
    ///
    /// # Errors
    /// The kernel refused a message.
    pub fn lay_again(&self) -> Result<()> {
        match (&self.connection, &self.netns) {
            (Some(Connection::Plugged(plugs)), Some(netns)) => plugs.lay_again(netns.as_fd()),
            _ => Ok(()),
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
            _ => None,
        }
    }

    /// What can be read when nobody answers the container's questions for names any more.
    fn silence(&self) -> Option<BorrowedFd<'_>> {
        Some(self.names.as_ref()?.registration.connection())
    }

    /// Has the questions answered again, unless that is worth nothing.
    fn break_silence(&mut self, id: &str, dirs: &Dirs) {
        let Some(before) = self.names.take() else {
            return;
        };
        let short = match before.since.elapsed() >= WORTH {
            true => 0,
            false => before.short + 1,
        };
        if short < MOST_SHORT {
            self.settle_names(id, dirs);
            self.names.iter_mut().for_each(|names| names.short = short);
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
                since: Instant::now(),
                short: 0,
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
