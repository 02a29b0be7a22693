//! What somebody else took away is made anew, from what is written in the leases.
//!
//! From outside that is everything but a cable that is gone altogether: a network namespace has no
//! name by which anybody but its container's own shim would find it. That one lays it.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::slice;

use anyhow::Result;

use super::{Bridge, Endpoint, doors_of, host_end, sides};
use crate::flows;
use crate::leases::lock;
use crate::links;
use crate::nat::Table;

impl Bridge {
    /// Makes all anew that somebody took away from living containers: rules, bridge, and the
    /// cables' ends in it. Answers the addresses of those whose cables are gone altogether: their
    /// endpoints [lay them again](Endpoint::lay_again).
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn rebuild(&self) -> Result<Vec<Ipv4Addr>> {
        let _lock = lock(&self.run_dir)?;
        let living = self.bury(None)?;
        if living.is_empty() {
            return Ok(Vec::new());
        }
        let table = Table::of(&self.run_dir)?;
        table.renew(&sides(&self.run_dir)?)?;
        self.stand(&self.place(&living)?)?;
        let addresses = living.iter().map(|record| record.address);
        let (here, gone): (Vec<_>, Vec<_>) =
            addresses.partition(|address| links::exists(&host_end(*address)));
        let here: Vec<_> = here.into_iter().map(host_end).collect();
        links::replug(&here, &self.name)?;
        here.iter().try_for_each(|host_end| self.adapt(host_end))?;
        let ports: Vec<_> = living.iter().flat_map(doors_of).map(|it| it.port).collect();
        flows::forget(table.line(), &ports)?;
        Ok(gone)
    }
}

impl Endpoint {
    /// Lays the cable again, if it is gone: with the same addresses, and the way out that it was.
    ///
    /// # Errors
    /// The kernel refused a message; a link in the container has taken the name.
    pub fn lay_again(&self, netns: BorrowedFd<'_>, interface: &str) -> Result<()> {
        let lease = &self.lease;
        let host_end = host_end(lease.address);
        let gateways = lease.ways_out();
        let cable = lease.cable(&host_end, interface, &gateways)?;
        {
            let _lock = lock(&lease.bridge.run_dir)?;
            if links::exists(&host_end) {
                return Ok(());
            }
            lease.bridge.stand(&lease.place)?;
            links::plug(&cable, netns)?;
            lease.bridge.adapt(&host_end)?;
        }
        let adapted = || lease.configure(&cable);
        links::within(netns, adapted).inspect_err(|_| {
            // One that is half laid would look whole to the next who comes.
            if let Ok(true) = links::condemn(&host_end) {
                let _ = links::remove_condemned(slice::from_ref(&host_end), None);
            }
        })
    }
}
