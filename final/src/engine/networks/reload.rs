//! `network reload`: what a firewall, or somebody else, took away is made anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Networks;
use crate::engine::containers::{Containers, PATIENCE, answer_of};
use crate::shim;
use crate::shim::protocol::Request;
use crate::state::Container;

impl Networks {
    /// Makes the bridges, the cables and the rules of containers' networks anew where they are gone;
    /// without a name, those of all that run. Answers the containers' ids.
    ///
    /// # Errors
    /// One of them does not run, or what the kernel refuses. Of shims that do not lay their
    /// containers' cables is told when all else is done.
    pub fn reload(&self, names: &[String]) -> Result<Vec<String>> {
        let containers = Containers::open(&self.dirs)?;
        let mut meant = Vec::new();
        for name in names {
            let container = containers.find(name)?;
            ensure!(
                container.life.status.needs_shim(),
                "container {name} is not running"
            );
            meant.push(container);
        }
        if names.is_empty() {
            meant = containers.list()?;
            meant.retain(|it| it.life.status.needs_shim() && !it.life.networks.is_empty());
        }
        let networks: BTreeSet<&String> = meant
            .iter()
            .flat_map(|it| it.life.networks.keys())
            .collect();
        // Without root others lead outside: first they, for where nobody does bridges are not found.
        let outside = match network::is_privileged()? {
            true => Ok(()),
            false => make_anew(&containers, &meant),
        };
        let cut = self.rebuild(&networks)?;
        make_anew(&containers, &those_of(&containers, &cut)?)?;
        outside?;
        Ok(meant.into_iter().map(|it| it.id).collect())
    }

    /// Makes networks anew but for the cables that are gone altogether. Answers whose those were.
    fn rebuild(&self, networks: &BTreeSet<&String>) -> Result<BTreeSet<Ipv4Addr>> {
        let cut = shim::within_networks(&self.dirs, || {
            let mut cut = String::new();
            for name in networks {
                for address in self.find(name)?.bridge(&self.dirs)?.rebuild()? {
                    writeln!(cut, "{address}")?;
                }
            }
            Ok(cut)
        })?;
        let cut = cut.unwrap_or_default();
        let addresses = cut.lines().map(|line| line.parse().context("an address"));
        addresses.collect()
    }
}

/// Who has one of these addresses.
fn those_of(containers: &Containers, addresses: &BTreeSet<Ipv4Addr>) -> Result<Vec<Container>> {
    let mut all = containers.list()?;
    all.retain(|it| {
        let mut networks = it.life.networks.values();
        networks.any(|network| {
            network
                .address
                .is_some_and(|address| addresses.contains(&address))
        })
    });
    Ok(all)
}

/// Has what is gone of containers' networks altogether made anew by those who hold them.
fn make_anew(containers: &Containers, all: &[Container]) -> Result<()> {
    // All at once: who does not answer keeps nobody waiting.
    let ask = |container| {
        let asked = containers.begin_to_ask(container, &Request::Replug);
        (container, asked)
    };
    let asked: Vec<_> = all.iter().map(ask).collect();
    let until = Instant::now() + PATIENCE;
    let mut refused = Vec::new();
    for (container, asked) in asked {
        let answer = asked.and_then(|shim| answer_of(&shim, container, until));
        // Who has ended meanwhile needs none.
        if let Err(error) = answer
            && containers
                .find(&container.id)
                .is_ok_and(|it| it.life.status.needs_shim())
        {
            refused.push(format!("{error:#}"));
        }
    }
    ensure!(
        refused.is_empty(),
        "what is gone of networks is not made anew: {}",
        refused.join("; ")
    );
    Ok(())
}
