//! `network connect` and `network disconnect`, for a container that runs: what the kernel is told is
//! written down, or undone.

use anyhow::Result;

use super::Shim;
use super::begin::Run;
use super::network::Change;
use crate::state::journal;
use crate::state::{Locked, Network, Wanted};

impl Shim<'_> {
    /// Plugs the container into one more network.
    pub(super) fn connect(&self, run: &mut Run, network: &str, wanted: Wanted) -> Result<()> {
        let mut locked = Locked::open(self.dirs, self.id.as_str())?;
        // It does not go between being found and being in use.
        let _held = Network::hold(self.dirs)?;
        locked.container.host.join(network, wanted);
        let change = run.network.connect(&locked.container, network, self.dirs)?;
        self.write_down(locked, run, change, "connect")
    }

    /// Takes the container out of a network.
    pub(super) fn disconnect(&self, run: &mut Run, network: &str) -> Result<()> {
        let mut locked = Locked::open(self.dirs, self.id.as_str())?;
        locked.container.host.leave(network);
        let change = run.network.disconnect(&locked.container, network)?;
        self.write_down(locked, run, change, "disconnect")
    }

    fn write_down(
        &self,
        mut locked: Locked,
        run: &mut Run,
        change: Change,
        action: &str,
    ) -> Result<()> {
        let seen = run.network.seen();
        let saved = seen.and_then(|seen| {
            let life = &mut locked.container.life;
            (life.networks, life.ports) = (seen.networks, seen.ports);
            locked.save()
        });
        if let Err(error) = saved {
            run.network.undo(change);
            return Err(error);
        }
        run.network.settle_names(self.id.as_str(), self.dirs);
        let network = &change.network;
        let event = network.event(action);
        let event = event.with("container", &locked.container.id);
        journal::tell(self.dirs, &event);
        Ok(())
    }
}
