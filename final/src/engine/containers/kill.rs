//! `docker kill`: a signal for a container.

use anyhow::{Result, bail, ensure};
use nix::sys::signal::Signal;

use super::Containers;
use crate::shim::protocol::Request;
use crate::state::{Container, Status};

impl Containers {
    /// Sends a signal to a container's first process; SIGKILL goes to all of its processes.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, what: &str, signal: i32) -> Result<Container> {
        let mut locked = self.lock(what)?;
        let (id, name) = (&locked.container.id, &locked.container.name);
        ensure!(
            matches!(
                locked.container.life.status,
                Status::Running | Status::Paused
            ),
            "cannot kill container: {name}: container {id} is not running"
        );
        // Who wants it to end does not want it started again.
        if signal == libc::SIGKILL || signal == stop_signal(&locked.container)? {
            locked.container.life.stopped_by_hand = true;
            locked.save()?;
        }
        let container = locked.container.clone();
        drop(locked);
        let all = signal == libc::SIGKILL;
        if !all {
            self.ask(&container, &Request::Signal { signal, all })?;
            return Ok(container);
        }
        let watch = self.watch(&container)?;
        self.ask(&container, &Request::Signal { signal, all })?;
        if let Some(shim) = watch {
            super::stop::has_ended(&shim, None)?;
        }
        Ok(container)
    }
}

/// The signal that asks a container to end.
pub(super) fn stop_signal(container: &Container) -> Result<i32> {
    match container.config.stop_signal.as_str() {
        "" => Ok(libc::SIGTERM),
        signal => parse_signal(signal),
    }
}

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`, `RTMAX-1` (signal(7)).
///
/// # Errors
/// There is no such signal.
pub fn parse_signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse() {
        ensure!(
            (1..=libc::SIGRTMAX()).contains(&number),
            "Invalid signal: {text}"
        );
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Ok(signal) = format!("SIG{name}").parse::<Signal>() {
        return Ok(signal as i32);
    }
    let far = |rest: &str| rest.get(1..).and_then(|rest| rest.parse::<i32>().ok());
    let (least, most) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(least),
        (_, Some("")) => Some(most),
        (Some(rest), _) if rest.starts_with('+') => far(rest).map(|far| least + far),
        (_, Some(rest)) if rest.starts_with('-') => far(rest).map(|far| most - far),
        _ => None,
    };
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => bail!("Invalid signal: {text}"),
    }
}
