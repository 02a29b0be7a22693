//! Leftovers: what is ours by its name, and no living container's.
//!
//! A container that dies leaves a lease, and by the lease the next one finds the rest
//! ([`crate::bridge`]). A program that dies half-written may have left links and tables without a
//! lease, or the lease was lost. They are known by their marks:
//!
//! ```text
//! mini0                        a bridge with the hardware address that only we give
//! veth0a580002                 a veth, named after an address of our subnets; plugged into mini0 or
//!                              nothing, and with its other end in this namespace
//! inet minidocker              a table whose comment is this state directory's
//! ```
//!
//! A veth whose other end is in another namespace is not a stray: somebody keeps that one alive.

use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Result;
use ipnetwork::Ipv4Network;

use crate::bridge::{self, Bridge};
use crate::nat::{self, Table};
use crate::{files, leases, links};

/// What programs that are gone left behind, each as a person would call it. It looks only.
/// `privileged` as in [`crate::Settings`]: links and tables are root's.
///
/// # Errors
/// The kernel, or the directory, cannot be asked.
pub fn leftovers(run_dir: &Path, privileged: bool) -> Result<Vec<String>> {
    let made = run_dir.join("network").is_dir();
    let _lock = made.then(|| leases::lock(run_dir)).transpose()?;
    let mut left = Vec::new();
    if privileged {
        let bridges = Bridge::all(run_dir)?;
        left.extend(Strays::of(run_dir, &bridges)?.names());
        for bridge in &bridges {
            let leases = bridge.dead()?.into_iter();
            left.extend(leases.map(|lease| format!("lease {}", lease.display())));
        }
    }
    let directories = files::dead(&files::containers(run_dir)).into_iter();
    left.extend(directories.map(|dir| format!("files for a container, {}", dir.display())));
    Ok(left)
}

/// Removes the [`leftovers`].
///
/// # Errors
/// What the kernel refuses.
pub fn sweep(run_dir: &Path, privileged: bool) -> Result<()> {
    if leftovers(run_dir, privileged)?.is_empty() {
        return Ok(());
    }
    let bridges = Bridge::all(run_dir)?;
    if privileged {
        bridges.iter().try_for_each(Bridge::sweep)?;
    }
    let _lock = leases::lock(run_dir)?;
    if privileged {
        Strays::of(run_dir, &bridges)?.remove(run_dir)?;
    }
    for bridge in &bridges {
        bridge.forget_if_empty()?;
    }
    files::sweep(&files::containers(run_dir))
}

/// Links that no living container needs, and whether that holds of the table.
#[derive(Default)]
pub(crate) struct Strays {
    links: Vec<String>,
    table: bool,
    /// Somebody alive is plugged in.
    occupied: bool,
}

impl Strays {
    /// Those of all bridges.
    fn of(run_dir: &Path, bridges: &[Bridge]) -> Result<Self> {
        let mut all = Self::default();
        for bridge in bridges {
            let strays = bridge.strays()?;
            all.links.extend(strays.links);
            all.occupied |= strays.occupied;
        }
        all.table = !all.occupied && Table::of(run_dir)?.is_ours()?;
        Ok(all)
    }

    /// Those of the bridge `name`, whose gateway is one of `gateways`. `living` and `dead` are the
    /// addresses that are leased.
    pub fn find(
        name: &str,
        gateways: &[Ipv4Network],
        living: &[Ipv4Addr],
        dead: &[Ipv4Addr],
    ) -> Result<Self> {
        let mut strays = Self::default();
        let mut used = living.to_vec();
        let mut occupied = !living.is_empty();
        let seen = links::survey(name, gateways)?;
        for link in &seen {
            let ours = bridge::address_behind(&link.name).filter(|address| {
                link.is_veth && gateways.iter().any(|net| net.contains(*address))
            });
            match ours {
                Some(address) if used.contains(&address) => {}
                Some(address) if link.leads_away && !dead.contains(&address) => {
                    used.push(address);
                    occupied |= link.is_port;
                }
                Some(_) if link.is_port || link.is_loose => strays.links.push(link.name.clone()),
                _ => occupied |= link.is_port,
            }
        }
        if !occupied && seen.iter().any(|link| link.is_bridge) {
            strays.links.push(name.to_owned());
        }
        strays.occupied = occupied;
        Ok(strays)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let links = self.links.iter().map(|link| format!("link {link}"));
        let table = format!("nf_tables table inet {}", nat::TABLE);
        links.chain(self.table.then_some(table))
    }

    fn remove(&self, run_dir: &Path) -> Result<()> {
        let table = Table::of(run_dir)?;
        if self.table {
            table.remove()?;
        }
        let mut condemned = Vec::new();
        for link in &self.links {
            if links::condemn(link)? {
                condemned.push(link.clone());
            }
        }
        if condemned.is_empty() {
            return Ok(());
        }
        links::remove_condemned(&condemned, Some(table.line().as_fd()))
    }
}
