//! Published ports that move from one of a container's networks to another, while it runs.

use std::mem;

use anyhow::Result;

use super::Endpoint;

impl Endpoint {
    /// Leads the ports of the host that lead here to another place of the same container.
    ///
    /// # Errors
    /// The kernel refused; all of them lead here as before.
    pub fn hand_ports_to(&mut self, other: &mut Endpoint) -> Result<()> {
        other.lease.ports.append(&mut mem::take(&mut self.lease.ports));
        Ok(())
    }
}
