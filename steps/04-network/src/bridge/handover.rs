//! Published ports that move from one of a container's networks to another, while it runs.

use std::io;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};

use super::{Endpoint, Lease, sides};
use crate::flows;
use crate::leases::{Entry, lock};
use crate::nat::Table;
use crate::publish::{Publish, Reserved};

impl Endpoint {
    /// Leads the ports of the host that lead here to another place of the same container.
    ///
    /// # Errors
    /// The kernel refused; all of them lead here as before.
    pub fn hand_ports_to(&mut self, other: &mut Endpoint) -> Result<()> {
        let (from, to) = (&mut self.lease, &mut other.lease);
        if from.ports.is_empty() {
            return Ok(());
        }
        let run_dir = from.bridge.run_dir.clone();
        let _lock = lock(&run_dir)?;
        let table = Table::of(&run_dir)?;
        let before = from.side();
        let own = to.ports.len();
        to.ports.append(&mut from.ports);
        // The leases first: by them whoever comes after a kill finds what is to be removed.
        let moved = to
            .rewrite()
            .and_then(|()| from.rewrite())
            .and_then(|()| table.move_doors(&before, &to.side(), || sides(&run_dir)));
        if let Err(error) = moved {
            from.ports = to.ports.split_off(own);
            from.rewrite().and_then(|()| to.rewrite())?;
            return Err(error);
        }
        let ports: Vec<Publish> = to.ports.iter().map(Reserved::port).collect();
        flows::forget(table.line(), &ports)
    }
}

impl Lease {
    /// Writes it anew, into the file whose lock says that we live.
    fn rewrite(&self) -> Result<()> {
        let entry = Entry {
            id: self.id.clone(),
            six: self.six,
            ports: self.ports().collect(),
        };
        let text = entry.to_string();
        let write = || -> io::Result<()> {
            self.file.write_all_at(text.as_bytes(), 0)?;
            self.file.set_len(text.len() as u64)
        };
        write().with_context(|| format!("write the lease of {}", self.address))
    }
}
