//! After a reboot: what `--restart` asks for.
//!
//! There is no daemon that would know of it. Whoever brings the machine up runs one command, and so
//! do those who have ended all shims.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Containers, kill, stop};
use crate::shim::protocol::{Connection, Request};
use crate::state::journal::{self, Event};
use crate::state::{Container, Restart, Status};

/// Seconds for those that have as many as they need.
const LONGEST_PATIENCE: u64 = 60;

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
            .map(|container| self.ask_to_end(container))
            .collect();
        let stopped = running.into_iter().zip(asked).map(|(container, asked)| {
            let done = asked
                .and_then(|asked| asked.map_or(Ok(()), |asked| self.see_end(&container, asked)));
            (container, done)
        });
        Ok(stopped.collect())
    }

    /// Writes down that its policy is not to start it again for now, and sends its signal.
    fn ask_to_end(&self, container: &Container) -> Result<Option<Asked>> {
        let mut locked = self.lock(&container.id)?;
        let by_hand = locked.container.life.stopped_by_hand;
        locked.container.life.stopped_by_hand = true;
        locked.save()?;
        drop(locked);
        let Some(shim) = self.watch(container)? else {
            return Ok(None);
        };
        match container.life.status {
            Status::Restarting => drop(self.ask(container, &Request::Cancel)),
            Status::Paused => drop(self.ask(container, &Request::Resume)),
            _ => {}
        }
        let signal = kill::stop_signal(container)?;
        let _ = self.ask(container, &Request::Signal { signal, all: false });
        let seconds = container.config.stop_timeout.unwrap_or(stop::PATIENCE);
        // Nobody can reboot who waits for ever.
        let seconds = u64::try_from(seconds).unwrap_or(LONGEST_PATIENCE);
        Ok(Some(Asked {
            shim,
            by_hand,
            until: Instant::now() + Duration::from_secs(seconds),
        }))
    }

    fn see_end(&self, container: &Container, asked: Asked) -> Result<()> {
        let left = asked.until.saturating_duration_since(Instant::now());
        if !stop::has_ended(&asked.shim, Some(left))? {
            let signal = libc::SIGKILL;
            let _ = self.ask(container, &Request::Signal { signal, all: true });
            stop::has_ended(&asked.shim, None)?;
        }
        drop(asked.shim);
        journal::tell(&self.dirs, &Event::of(container, "stop"));
        // One with --rm is gone.
        let Ok(mut locked) = self.lock(&container.id) else {
            return Ok(());
        };
        locked.container.life.stopped_by_hand = asked.by_hand;
        locked.save()
    }
}

/// A container that has its signal.
struct Asked {
    shim: Connection,
    /// Whether somebody had stopped it before.
    by_hand: bool,
    /// The end of its patience.
    until: Instant,
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
