//! After a reboot: what `--restart` asks for.
//!
//! There is no daemon that would know of it. Whoever brings the machine up runs one command, and so
//! do those who have ended all shims.

use anyhow::Result;

use super::{Containers, Stopping};
use crate::state::{Container, Restart};

/// Seconds for those that have as many as they need.
const LONGEST_PATIENCE: i64 = 60;

impl Containers {
    /// Starts the containers that are to run always, and those that nobody stopped, in the order in
    /// which they were created: one that shares another's network comes after it. Returns each with
    /// what became of it.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn resume(&self) -> Result<Vec<(Container, Result<()>)>> {
        let mut waiting = self.list()?;
        waiting.retain(is_due);
        waiting.reverse();
        let started = waiting.into_iter().map(|container| {
            let done = self.start(&container.id, None).map(drop);
            (container, done)
        });
        Ok(started.collect())
    }

    /// Stops all containers, all at once, without that being somebody's wish for the time after the
    /// reboot. Returns each with what became of it.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn rest(&self) -> Result<Vec<(Container, Result<()>)>> {
        let mut running = self.list()?;
        running.retain(|container| container.life.status.needs_shim());
        // Each has its own patience, which begins now.
        let asked: Vec<_> = running
            .iter()
            .map(|container| self.ask_to_end(&container.id, stopping(container)))
            .collect();
        let mut ends = Vec::new();
        self.see_ends(asked, |_, ended| ends.push(ended));
        let stopped = running.into_iter().zip(ends).map(|(container, ended)| {
            let done = ended.and_then(|_| self.restore_wish(&container));
            (container, done)
        });
        Ok(stopped.collect())
    }

    /// Writes down whether somebody had stopped the container before all were.
    fn restore_wish(&self, before: &Container) -> Result<()> {
        // One with --rm is gone.
        let Ok(mut locked) = self.lock(&before.id) else {
            return Ok(());
        };
        locked.container.life.stopped_by_hand = before.life.stopped_by_hand;
        locked.save()
    }
}

/// As the container says; but nobody can reboot who waits for ever.
fn stopping(container: &Container) -> Stopping {
    let for_ever = container
        .config
        .stop_timeout
        .is_some_and(|seconds| seconds < 0);
    Stopping {
        signal: None,
        seconds: for_ever.then_some(LONGEST_PATIENCE),
    }
}

/// Whether its policy wants it to run. One that never ran is nobody's to start.
fn is_due(container: &Container) -> bool {
    let life = &container.life;
    let wanted = match container.host.restart_policy {
        Restart::Always => true,
        Restart::UnlessStopped => !life.stopped_by_hand,
        Restart::No | Restart::OnFailure(_) => false,
    };
    wanted && life.started.is_some() && !life.status.needs_shim()
}
