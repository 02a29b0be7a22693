//! `network reload`: what a firewall, or somebody else, took away is made anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Networks;
use crate::engine::containers::{Containers, answer_of};
use crate::shim;
use crate::shim::protocol::Request;
use crate::state::Container;

/// How long shims have to lay cables.
const PATIENCE: Duration = Duration::from_secs(10);

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
        let cut = self.rebuild(&networks)?;
        lay_again(&containers, &cut)?;
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

/// Has the cables of those who had these addresses laid again, by those who hold their networks.
fn lay_again(containers: &Containers, cut: &BTreeSet<Ipv4Addr>) -> Result<()> {
    if cut.is_empty() {
        return Ok(());
    }
    let is_cut = |it: &Container| {
        let mut networks = it.life.networks.values();
        networks.any(|network| {
            network
                .address
                .is_some_and(|address| cut.contains(&address))
        })
    };
    let mut all = containers.list()?;
    all.retain(is_cut);
    // All at once: who does not answer keeps nobody waiting.
    let ask = |container| {
        let asked = containers.begin_to_ask(container, &Request::Replug);
        (container, asked)
    };
    let asked: Vec<_> = all.iter().map(ask).collect();
    let until = Instant::now() + PATIENCE;
    let mut refused = Vec::new();
    for (container, asked) in asked {
        let answer = asked.and_then(|shim| {
            shim.set_patience(until.saturating_duration_since(Instant::now()))?;
            answer_of(&shim, container)
        });
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
        "cables that were gone are not laid again: {}",
        refused.join("; ")
    );
    Ok(())
}
